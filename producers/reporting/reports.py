"""The HTML report of a scan: one file that opens offline, written from a stream of results in bounded memory.

tally the rows --the highest-scored flagged ones--> fetch thumbnails --> render --> replace the output
"""

import base64
import heapq
import io
import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from PIL import Image

from worker.errors import FakesweepError
from worker.files import replacing
from worker.images import open_image
from worker.pages import environment
from worker.tables import Verdict

Row = Mapping[str, Any]
Fetch = Callable[[str, str | None], bytes]

BINS = 20
THUMBNAIL_PX = 224
THUMBNAIL_MAX_PIXELS = 100_000_000
FETCHERS = 8
DECODERS = 2  # a full-size image of 100 megapixels takes 300 MB while it is made small: not eight of them at once
PLOT_TOP_PX, PLOT_BOTTOM_PX = 44, 224


def write_report(summary: Mapping[str, Any], rows: Iterable[Row], fetch: Fetch, output: Path, *,
                 gallery: int = 1000) -> None:  # fmt: skip
    """Writes the report to `output`, which is replaced only when the report is whole.

    `summary` is what `status --json` prints. `rows` are the lines of `results`, read once; memory holds the `gallery`
    highest-scored flagged ones. `fetch` is called from 8 threads with (uri, etag); a FakesweepError from it becomes a
    placeholder in the page. Raises OSError where `output` cannot be written, before any row is read.
    """
    with replacing(output, errors="backslashreplace") as file:
        tally = Tally()
        flagged = tally.take(rows, gallery)
        with closing(_with_thumbnails(flagged, fetch)) as cards:
            page = environment(Path(__file__).parent).get_template("report.html.j2")
            file.writelines(page.generate(
                scan=summary, tally=tally, histogram=_histogram(tally.bins), shown=len(flagged),
                cards=cards, written_at=datetime.now(UTC).isoformat(),
            ))  # fmt: skip


@dataclass
class Failure:
    """How many images failed for one reason, and the first of them."""

    example: Row
    images: int = 0


@dataclass
class Tally:
    """What is counted while the rows pass. `bins` has BINS counts for each verdict, `failures` is by reason code."""

    rows: int = 0
    flagged: int = 0
    undecided: int = 0
    contradicting: int = 0
    bins: dict[str, list[int]] = field(default_factory=lambda: {str(verdict): [0] * BINS for verdict in Verdict})
    failures: dict[str, Failure] = field(default_factory=dict)

    def take(self, rows: Iterable[Row], gallery: int) -> list[Row]:
        """Counts every row; returns the `gallery` flagged ones with the highest scores, equal scores by uri."""
        flagged = self._flagged(rows)
        first = heapq.nsmallest(gallery, flagged, key=lambda row: (-(row["score"] or 0.0), row["uri"]))
        deque(flagged, maxlen=0)  # with a gallery of 0 nothing was read yet
        return first

    def _flagged(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self._count(row)
            if row["verdict"] == Verdict.FAKE:
                self.flagged += 1
                yield row

    def _count(self, row: Row) -> None:
        self.rows += 1
        self.contradicting += bool(row["contradicts"])
        if row["verdict"] is None:
            self.failures.setdefault(row["reason"], Failure(row)).images += 1
        elif row["score"] is None:
            self.undecided += 1
        else:
            self.bins[row["verdict"]][min(int(row["score"] * BINS), BINS - 1)] += 1


def _with_thumbnails(rows: list[Row], fetch: Fetch) -> Generator[tuple[Row, dict[str, Any]], None, None]:
    decoding = BoundedSemaphore(DECODERS)

    def thumbnail(row: Row) -> dict[str, Any]:
        try:
            data = fetch(row["uri"], row["etag"])
            with decoding:
                return _thumbnail(open_image(data, max_pixels=THUMBNAIL_MAX_PIXELS))
        except FakesweepError as error:
            return {"problem": str(error)[:300]}

    pool = ThreadPoolExecutor(FETCHERS)
    try:
        yield from zip(rows, pool.map(thumbnail, rows), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _thumbnail(image: Image.Image) -> dict[str, Any]:
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    image.info.clear()  # or Pillow copies the original's comment into the thumbnail
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=70)
    encoded = base64.b64encode(jpeg.getvalue()).decode()
    return {"src": f"data:image/jpeg;base64,{encoded}", "width": image.width, "height": image.height}


def _histogram(bins: Mapping[str, list[int]]) -> dict[str, Any]:
    """Bars and ticks: x in per cent of the plot's width, y in pixels, so that text keeps its size on any screen."""
    totals = [sum(counts) for counts in zip(*bins.values(), strict=True)]
    step = _tick_step(max(totals))
    top = step * math.ceil(max(totals) / step) or step
    scale = (PLOT_BOTTOM_PX - PLOT_TOP_PX) / top
    return {
        "scored": sum(totals),
        "bars": [_bar(number, bins, scale) for number in range(BINS)],
        "ticks": [(PLOT_BOTTOM_PX - count * scale, count) for count in range(0, top + 1, step)],
        "top": PLOT_TOP_PX,
        "bottom": PLOT_BOTTOM_PX,
    }


def _bar(number: int, bins: Mapping[str, list[int]], scale: float) -> dict[str, Any]:
    counts = {verdict: counts[number] for verdict, counts in bins.items()}
    parts, y = [], float(PLOT_BOTTOM_PX)
    for verdict, count in counts.items():
        if count:
            height = max(count * scale, 2.0)  # one image among millions still shows
            y -= height
            parts.append((verdict, y, height))
    return {"x": number * 100 / BINS, "from": number / BINS, "to": (number + 1) / BINS, "counts": counts,
            "total": sum(counts.values()), "parts": parts, "y": y}  # fmt: skip


def _tick_step(highest: int) -> int:
    """The round number (1, 2 or 5 x 10^n) that divides `highest` into at most four steps."""
    steps: Iterator[int] = (digit * 10**power for power in itertools.count() for digit in (1, 2, 5))
    return next(step for step in steps if step * 4 >= highest)
