"""The HTML report of a scan: one file that opens offline, written from a stream of results in bounded memory.

tally the rows --the best contents--> ask for their reviews --> fetch thumbnails --> render --> replace the output
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any
from uuid import UUID

from markupsafe import Markup

from producers.reporting.cards import MAX_PLACES, Row, addresses
from producers.reporting.histogram import histogram
from producers.reporting.reviewed import Reviewed
from producers.reporting.tally import ReportTally
from producers.reporting.thumbnails import Fetch, Room, with_thumbnails
from worker.files import replacing
from worker.pages import templates_in

FLAGGED, UNCERTAIN = 500, 100
"""How many contents a report shows of either kind."""
PICTURES_MIB = 32
"""How much all pictures of a report take in the file. 500 pictures of the largest size fit."""
LONGEST_TEXT = 4000
"""Characters of an explanation or a detail that are shown."""

ReviewsOf = Callable[[Iterable[str]], Reviewed]
"""What people said of a scan, and of the contents with these SHA-256."""


def write_report(summary: Mapping[str, Any], rows: Iterable[Row], fetch: Fetch, output: Path, *,
                 reviews: ReviewsOf = lambda _: Reviewed(), gallery: int = FLAGGED, uncertain: int = UNCERTAIN,
                 pictures_bytes: int = PICTURES_MIB << 20) -> None:  # fmt: skip
    """Writes the report to `output`, which is replaced only when the report is whole.

    `summary` is what `status --json` prints. `rows` are the lines of `results`, read once, by uri; memory holds the
    `gallery` flagged contents with the highest scores and so many `uncertain` ones. `reviews` is asked once. `fetch` is
    called from 8 threads with (uri, etag); a FakesweepError from it becomes a placeholder in the page. Pictures take at
    most `pictures_bytes` of the file; the best contents get theirs first. Raises OSError where `output` cannot be
    written, before any row is read.
    """
    with replacing(output, errors="backslashreplace") as file:
        tally = ReportTally()
        flagged, unsure = tally.take(rows, gallery, uncertain)
        room = Room(pictures_bytes)
        style = _style(UUID(summary["scan"]))
        with closing(with_thumbnails(flagged + unsure, fetch, room)) as cards:
            page = templates_in(Path(__file__).parent).get_template("report.html.j2")
            file.writelines(page.generate(
                scan=summary, tally=tally, histogram=histogram(tally.bins), flagged=flagged, unsure=unsure,
                reviewed=reviews(addresses(chain(flagged, unsure))), release=version("fakesweep"), room=room,
                flagged_cards=islice(cards, len(flagged)), unsure_cards=cards,
                written_at=datetime.now(UTC).isoformat(), style=Markup(style), style_hash=_hash(style),  # noqa: S704 - ours
                pictures_mib=pictures_bytes / 2**20, max_places=MAX_PLACES, longest=LONGEST_TEXT,
            ))  # fmt: skip


def _style(scan_id: UUID) -> str:
    """The style sheet. The head of each printed page names the scan, which only the style sheet can put there."""
    sheet = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return sheet.replace("SCAN-ID", str(scan_id))


def _hash(style: str) -> str:
    """By which the page's policy lets in this style sheet alone."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
