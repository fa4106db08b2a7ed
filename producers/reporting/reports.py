"""The HTML report of a scan: one file that opens offline, written from a stream of results in bounded memory.

tally the rows --the highest-scored flagged ones--> fetch thumbnails --> render --> replace the output
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from producers.reporting.histogram import histogram
from producers.reporting.tally import ReportTally, Row
from producers.reporting.thumbnails import Fetch, with_thumbnails
from worker.files import replacing
from worker.pages import templates_in


def write_report(summary: Mapping[str, Any], rows: Iterable[Row], fetch: Fetch, output: Path, *,
                 gallery: int = 1000) -> None:  # fmt: skip
    """Writes the report to `output`, which is replaced only when the report is whole.

    `summary` is what `status --json` prints. `rows` are the lines of `results`, read once; memory holds the `gallery`
    highest-scored flagged ones. `fetch` is called from 8 threads with (uri, etag); a FakesweepError from it becomes a
    placeholder in the page. Raises OSError where `output` cannot be written, before any row is read.
    """
    with replacing(output, errors="backslashreplace") as file:
        tally = ReportTally()
        flagged = tally.take(rows, gallery)
        with closing(with_thumbnails(flagged, fetch)) as cards:
            page = templates_in(Path(__file__).parent).get_template("report.html.j2")
            file.writelines(page.generate(
                scan=summary, tally=tally, histogram=histogram(tally.bins), shown=len(flagged),
                cards=cards, written_at=datetime.now(UTC).isoformat(),
            ))  # fmt: skip
