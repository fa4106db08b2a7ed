"""Commands that read what scans found."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.commands.completion import complete_scan
from producers.commands.options import (
    Json,
    ScanName,
    broker_app,
    environment,
    open_database,
    print_json,
    time_of,
    uri_of,
)
from worker.errors import BrokerUnavailableError, ConfigurationError, NoSuchContentError

if TYPE_CHECKING:
    from worker.settings import Settings

app = typer.Typer()


class VerdictName(StrEnum):
    """worker.tables.Verdict, without the tables' imports."""

    FAKE = "fake"
    UNCERTAIN = "uncertain"
    REAL = "real"


@app.command()
def status(
    scan: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCAN]",
            help="A scan's id, the first characters of it (4 or more), or its name; without it, the newest scans.",
            autocompletion=complete_scan,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how far a scan is, or the newest scans."""
    from producers.reporting import results, standing
    from producers.scan_names import scan_named

    settings = environment()
    database = open_database(settings)
    if scan is None:
        recent = results.recent_scans(database)
        if as_json:
            print_json({"scans": recent})
            return
        standing.print_scans(recent)
    else:
        found = results.summary(database, scan_named(database, scan))
        if as_json:
            print_json(found)
            return
        standing.print_summary(found)
        recent = [found]
    standing.say_stalled(recent)
    _say_absent(settings, recent)


def _say_absent(settings: "Settings", scans: Iterable[Mapping[str, Any]]) -> None:
    """Says on which queues nobody works, among those of scans that are at work. Without BROKER_URL, nobody is asked."""
    from producers.reporting import progress
    from worker.database.lifecycle import ACTIVE
    from worker.messages import LIVE_QUEUE, SCAN_QUEUE

    queues = {LIVE_QUEUE if scan["kind"] == "live" else SCAN_QUEUE for scan in scans if scan["status"] in ACTIVE}
    if not queues or not settings.broker_url.get_secret_value():
        return
    from producers.listeners import absence, listeners

    try:
        app = broker_app(settings)
        for queue in sorted(queues):
            if listeners(app, queue) == 0:
                progress.say(absence(queue))
    except (BrokerUnavailableError, ConfigurationError) as error:
        progress.say(f"nobody knows whether a worker listens: {error}")


@app.command(name="results")
def results_(
    scan: ScanName,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="A file instead of stdout.")] = None,
    verdict: Annotated[
        list[VerdictName] | None, typer.Option(help="Only findings with this verdict. Can be repeated.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV for a spreadsheet, and not JSON Lines.")] = False,
    disagreements: Annotated[
        bool,
        typer.Option("--disagreements", help="Only images that one detector calls fake and another one real."),
    ] = False,
) -> None:
    """Write a scan's findings as JSON Lines, one line per finding.

    In a scan that records changes, images that are as they were last time have no finding.
    """
    from producers.reporting import results, standing
    from producers.scan_names import scan_named
    from worker.files import replacing

    database = open_database(environment())
    scan_id = scan_named(database, scan)
    standing.say_unchanged(results.progress(database, scan_id))
    found = results.rows(database, scan_id, verdicts=verdict or (), disagreements=disagreements)
    if output is None:
        sys.stdout.writelines(_written(found, as_csv=as_csv))
        return
    with replacing(output) as file:
        file.writelines(_written(found, as_csv=as_csv))


def _written(rows: Iterator[dict[str, Any]], *, as_csv: bool) -> Iterator[str]:
    if as_csv:
        from producers.reporting.csv_findings import csv_pieces

        return csv_pieces(iter(lambda: list(islice(rows, 1000)), []))
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@app.command()
def report(
    scan: ScanName,
    output: Annotated[Path, typer.Option(metavar="FILE.html", help="The HTML file to write.")],
) -> None:
    """Write a scan's report: one HTML file that opens offline."""
    from producers.forgetting import image_at
    from producers.reporting import reports, results
    from producers.reporting.opinions import agreement_of
    from producers.reporting.reviewed import reviewed
    from producers.scan_names import scan_named
    from worker.storage import open_stores

    settings = environment()
    database = open_database(settings)
    scan_id = scan_named(database, scan)
    store = open_stores(settings)
    reports.write_report(
        results.summary(database, scan_id),
        results.rows(database, scan_id),
        lambda uri, etag: store.fetch(image_at(uri, etag)),
        output,
        reviews=lambda sha256s: reviewed(database, scan_id, sha256s),
        agreement=lambda: agreement_of(database, scan_id),
    )


@app.command()
def flagged(
    new_since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what was flagged first at this time or later (ISO 8601).")
    ] = None,
    unreviewed: Annotated[bool, typer.Option("--unreviewed", help="Only what nobody has decided about.")] = False,
    scan: Annotated[
        str | None, typer.Option(metavar="SCAN", help="Only what this scan flagged.", autocompletion=complete_scan)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many contents are shown at most.")] = 100,
    as_json: Json = False,
) -> None:
    """Show flagged contents, the newest first: each content once, with the places where it was found."""
    from producers.reporting import contents, progress
    from producers.scan_names import scan_named

    since, database = time_of(new_since, "--new-since"), open_database(environment())
    scan_id = None if scan is None else scan_named(database, scan)
    found = contents.flagged(database, contents.Wanted(since=since, unreviewed=unreviewed, scan_id=scan_id), limit)
    if as_json:
        print_json({"contents": found})
        return
    for row in found:
        typer.echo(progress.content_line(row))


@app.command()
def history(
    uri: Annotated[
        str, typer.Argument(metavar="URI", help="s3://bucket/key, file:///path, a path, a SHA-256, or a puid.")
    ],
    as_json: Json = False,
) -> None:
    """Show what every scan found at URI and what people decided about it, newest first.

    A complaint names a picture or the puid of a statement of reasons: both find the decision. A SHA-256 or a puid finds
    decisions only, because findings are found by their uri.
    """
    from producers.dsa.complaints import decisions_about, is_reference
    from producers.dsa.printing import decision_line
    from producers.reporting import progress, results

    # A uri that `results` wrote is used unchanged: the file may be gone.
    reference = is_reference(uri)
    wanted = uri if reference or (uri.startswith("file:///") and uri.isascii()) else uri_of(uri)
    database = open_database(environment())
    found, decided = results.history(database, wanted), decisions_about(database, wanted)
    if not found and not decided:
        where = "findings are found by their uri" if reference else "findings of old scans may have been dropped"
        missing = f"no decision is about {wanted}" if reference else f"no finding names {wanted}, and no decision"
        raise NoSuchContentError(f"{missing}: check its spelling; {where}")
    if as_json:
        failures = results.replaced_failures(database, wanted)
        print_json({"findings": found, "replaced_failures": failures, "decisions": decided})
        return
    for row in decided:
        typer.echo(decision_line(row))
    for row in found:
        typer.echo(f"{row['decided_at'][:19]}\t{progress.line(row)}")
