"""How fast does a reviewer get the next image? Measures a key press on the server, by filters, and each page.

    python -m benchmarks.review_desk [--findings 10000000] [--contents 2200000] [--scans 30] [--reviews 100000]

Half of the contents are fake or uncertain: a million wait for a review, and five thousand are disputed. A key press is
the POST of a decision, which claims the next content, and the GET of its page. Both go through the real app in this
process, with session, templates and near duplicates. The picture is a photo of 12 megapixels on this machine's disk.
All figures are in milliseconds. `--loaded URL` measures in a database that is already filled, and keeps it.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.archive_history import Size, fill
from benchmarks.desk_archive import furnish, lay_out, matching, want_second_looks
from benchmarks.desk_browser import Browser, NothingWaitsError
from benchmarks.scratch import scratch_database, write_result
from producers.web.serve import PATIENCE
from worker.database import Database, connect
from worker.database.detectors import register_detector
from worker.tables import DeskRole
from worker.testing import scripted_description

PRESSES, PAGES, PHOTOS = 100, 20, 24
MOST_S = 15.0
"""The longest time, in seconds, for which each question is repeated."""
WANTED_MS, PICTURE_MS = 100.0, 300.0
PEOPLE = {"heron": DeskRole.REVIEWER, "owl": DeskRole.LEAD}

Figures = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--findings", type=int, default=10_000_000)
    parser.add_argument("--contents", type=int, default=2_200_000)
    parser.add_argument("--scans", type=int, default=30)
    parser.add_argument("--reviews", type=int, default=100_000)
    parser.add_argument("--loaded", help="the URL of a database that is already filled; it is kept")
    options = vars(parser.parse_args())
    loaded = options.pop("loaded")
    before = list(os.getloadavg())
    with nullcontext((loaded, connect(loaded))) if loaded else scratch_database() as (url, database):
        if not loaded:
            fill(url, register_detector(database, scripted_description().row()), Size(**options))
        furnish(url)
        figures = measured(url, connect(url, pool_size=16, patience=PATIENCE))
    slow = {name: one for name, one in figures.items() if one["p95"] > _wanted(name)}
    told = options | {"load_average_before": before, "ms": figures, "slower_than_wanted": slow}
    write_result("review_desk", told)


def _wanted(name: str) -> float:
    return PICTURE_MS if name.startswith("picture") else WANTED_MS


def filters_of(values: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Returns filters by name: none, single ones, and pairs. `rare` is a bucket with few contents of a large scan."""
    scan, case, detector = ({name: values[key]} for name, key in _KEYS)
    bucket, rare, uncertain = {"bucket": "bucket-1"}, {"bucket": "rare"}, {"verdict": "uncertain"}
    return {
        "no filter": {}, "scan": scan, "bucket": bucket, "detector": detector, "uncertain": uncertain, "case": case,
        "bucket and uncertain": bucket | uncertain, "scan and uncertain": scan | uncertain,
        "detector and uncertain": detector | uncertain, "case and uncertain": case | uncertain,
        "scan and bucket": scan | bucket, "scan and rare bucket": scan | rare,
        "rare bucket and uncertain": rare | uncertain,
        "bucket and detector": bucket | detector, "scan and detector": scan | detector,
        "case and bucket": case | bucket,
    }  # fmt: skip


_KEYS = (("scan", "scan"), ("external_id", "case"), ("detector", "detector"))


def measured(url: str, database: Database) -> Figures:
    """Returns the median and the 95th percentile of each question."""
    figures: Figures = {}
    with _browsers(database, second_share=0.0) as browsers, TemporaryDirectory() as folder:
        lay_out(url, Path(folder), PHOTOS)
        figures |= _with_picture(browsers["heron"])
    with _browsers(database) as browsers:
        for name, filters in filters_of(matching(url)).items():
            for who, browser in browsers.items():
                figures[f"key press; {name}; {PEOPLE[who]}"] = _presses(browser, filters)
            figures[f"queue; {name}"] = timed(partial(browsers["heron"].queue, filters), PAGES)
        figures["queue; second page"] = timed(browsers["heron"].second_page({}), PAGES)
        figures["overview"] = timed(partial(browsers["owl"].get, "/overview"), PAGES)
        figures["undo"] = timed(browsers["heron"].undo, PAGES)
        want_second_looks(url)
        for name, filters in (("no filter", {}), ("bucket", {"bucket": "bucket-1"})):
            figures[f"key press; 5,000 second looks; {name}"] = _presses(browsers["heron"], filters)
    return figures


@contextmanager
def _browsers(database: Database, **settings: float) -> Iterator[dict[str, Browser]]:
    with Browser.all(database, PEOPLE, **settings) as browsers:
        yield browsers


def _presses(browser: Browser, filters: dict[str, str]) -> dict[str, float]:
    """Measures decisions with these filters, one after the other."""
    browser.begin(filters)
    figures = timed(browser.press, PRESSES)
    browser.skip()
    return figures


def _with_picture(browser: Browser) -> Figures:
    """Measures decisions about photos, and loading the next photo's clear picture."""
    pictures: list[float] = []
    presses: list[float] = []
    browser.begin({})
    for _ in range(PHOTOS - 1):
        presses.append(_ms(browser.press))
        pictures.append(_ms(browser.picture))
    browser.press()
    browser.skip()
    return {"key press; photos": percentiles(presses), "picture": percentiles(pictures)}


def timed(question: Callable[[], object], repetitions: int) -> dict[str, float]:
    """Measures a question in milliseconds. It is repeated for at most MOST_S."""
    times: list[float] = []
    until = time.monotonic() + MOST_S
    while len(times) < repetitions and (len(times) < 2 or time.monotonic() < until):
        try:
            times.append(_ms(question))
        except NothingWaitsError:
            break
    return percentiles(times)


def percentiles(times: list[float]) -> dict[str, float]:
    """Returns the median, the 95th percentile and the number of times; zeros if there are none."""
    ranked = sorted(times) or [0.0]
    return {
        "p50": round(ranked[(len(ranked) - 1) // 2], 1),
        "p95": round(ranked[min(len(ranked) - 1, round(0.95 * len(ranked)))], 1),
        "n": len(times),
    }


def _ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
