"""The HTML report of a scan: one file that opens offline, written from a stream of results in bounded memory.

tally the rows --the best contents--> ask for their reviews --> fetch thumbnails --> render --> replace the output
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any
from uuid import UUID

from markupsafe import Markup

from producers.reporting.audits import audit_line
from producers.reporting.cards import MAX_PLACES, Row, addresses
from producers.reporting.histogram import histogram
from producers.reporting.opinions import Agreement
from producers.reporting.provenance import provenance_lines
from producers.reporting.results import WORDLESS
from producers.reporting.reviewed import Reviewed
from producers.reporting.stages import STAGES
from producers.reporting.tally import ReportTally
from producers.reporting.thumbnails import Fetch, Room, with_thumbnails
from worker.files import replacing
from worker.pages import templates_in

FLAGGED, UNCERTAIN, DIFFERING = 500, 100, 100
"""How many flagged contents, how many uncertain ones, and how many on which detectors differ, a report shows."""
PICTURES_MIB = 32
"""How many bytes all pictures of a report may take in the file. 500 pictures of the largest size fit."""
LONGEST_TEXT = 4000
"""How many characters of an explanation or a detail are shown."""

ReviewsOf = Callable[[Iterable[str]], Reviewed]
"""A function that returns what people said about a scan, and about the contents with these SHA-256."""


def write_report(summary: Mapping[str, Any], rows: Iterable[Row], fetch: Fetch, output: Path, *,
                 reviews: ReviewsOf = lambda _: Reviewed(), gallery: int = FLAGGED, uncertain: int = UNCERTAIN,
                 pictures_bytes: int = PICTURES_MIB << 20,
                 agreement: Callable[[], Sequence[Agreement]] = lambda: ()) -> None:  # fmt: skip
    """Writes the report to `output`. The old file is replaced only when the report is complete.

    `summary` is what `status --json` prints. `rows` are the lines of `results`, by uri, and are read once. Memory holds
    the `gallery` flagged contents with the highest scores, and as many `uncertain` ones. `reviews` is called once.
    `agreement` says how far further detectors agree; the images on which they differ come first.
    `fetch` is called from 8 threads with (uri, etag). If it raises a FakesweepError, the page has a placeholder.
    Pictures take at most `pictures_bytes` of the file, and the contents with the highest scores get theirs first.

    Raises OSError if `output` cannot be written, before any row is read.
    """
    with replacing(output, errors="backslashreplace") as file:
        tally = ReportTally()
        flagged, unsure, differing = tally.take(rows, gallery, uncertain, DIFFERING)
        room = Room(pictures_bytes)
        style = _style(UUID(summary["scan"]))
        with closing(with_thumbnails(differing + flagged + unsure, fetch, room)) as cards:
            page = templates_in(Path(__file__).parent).get_template("report.html.j2")
            file.writelines(page.generate(
                scan=summary, tally=tally, histogram=histogram(tally.bins), flagged=flagged, unsure=unsure,
                reviewed=reviews(addresses(chain(differing, flagged, unsure))), release=version("fakesweep"), room=room,
                agreement=agreement(), differing=differing, differing_cards=islice(cards, len(differing)),
                flagged_cards=islice(cards, len(flagged)), unsure_cards=cards,
                written_at=datetime.now(UTC).isoformat(), style=Markup(style), style_hash=_hash(style),  # noqa: S704 - ours
                said=provenance_lines, stages=STAGES, audit_line=audit_line, wordless=WORDLESS, longest=LONGEST_TEXT,
                pictures_mib=pictures_bytes / 2**20, max_places=MAX_PLACES,
            ))  # fmt: skip


def _style(scan_id: UUID) -> str:
    """Returns the style sheet. The head of each printed page names the scan, and only the style sheet can put it
    there.
    """
    sheet = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return sheet.replace("SCAN-ID", str(scan_id))


def _hash(style: str) -> str:
    """Returns the hash by which the page's policy allows this style sheet and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
