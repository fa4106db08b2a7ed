"""Commands that read what scans found."""

import json
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from producers.commands.options import Json, ScanId, environment, open_database, print_json, time_of, uri_of

app = typer.Typer()


@app.command()
def status(
    scan_id: Annotated[
        UUID | None, typer.Argument(metavar="[SCAN]", help="A scan's id; without it, the newest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how far a scan is, or the newest scans."""
    from producers.reporting import progress, results

    database = open_database(environment())
    if scan_id is None:
        recent = results.recent_scans(database)
        if as_json:
            print_json({"scans": recent})
        else:
            progress.print_scans(recent)
            progress.say_stalled(recent)
        return
    found = results.summary(database, scan_id)
    if as_json:
        print_json(found)
        return
    progress.print_summary(found)
    progress.say_stalled([found])


@app.command(name="results")
def results_(
    scan_id: ScanId,
    output: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
) -> None:
    """Write a scan's findings as JSON Lines, one an image.

    Of a scan that records changes, images that are as they were last time have no finding.
    """
    from producers.reporting import progress, results
    from worker.files import replacing

    database = open_database(environment())
    progress.say_unchanged(results.progress(database, scan_id))
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in results.rows(database, scan_id))
    if output is None:
        sys.stdout.writelines(lines)
        return
    with replacing(output) as file:
        file.writelines(lines)


@app.command()
def report(
    scan_id: ScanId,
    output: Annotated[Path, typer.Option(help="The HTML file to write.")],
) -> None:
    """Write a scan's report: one HTML file that opens offline."""
    from producers.reporting import reports, results
    from producers.reporting.reviewed import reviewed
    from worker.messages import ImageRef
    from worker.storage import open_stores

    settings = environment()
    database = open_database(settings)
    store = open_stores(settings)
    reports.write_report(
        results.summary(database, scan_id),
        results.rows(database, scan_id),
        lambda uri, etag: store.fetch(ImageRef(uri=uri, etag=etag)),
        output,
        reviews=lambda sha256s: reviewed(database, scan_id, sha256s),
    )


@app.command()
def flagged(
    new_since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what was flagged first at this time or later (ISO 8601).")
    ] = None,
    unreviewed: Annotated[bool, typer.Option("--unreviewed", help="Only what nobody has decided about.")] = False,
    scan: Annotated[UUID | None, typer.Option(metavar="SCAN", help="Only what this scan flagged.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    as_json: Json = False,
) -> None:
    """Show flagged contents, the newest first: each once, with the places where it was found."""
    from producers.reporting import contents, progress

    wanted = contents.Wanted(since=time_of(new_since), unreviewed=unreviewed, scan_id=scan)
    found = contents.flagged(open_database(environment()), wanted, limit)
    if as_json:
        print_json({"contents": found})
        return
    for row in found:
        typer.echo(progress.content_line(row))


@app.command()
def history(
    uri: Annotated[str, typer.Argument(metavar="URI", help="s3://bucket/key, file:///path or a path.")],
    as_json: Json = False,
) -> None:
    """Show what every scan found at URI, newest first."""
    from producers.reporting import progress, results

    # As `results` writes it, it is taken as it is: the file may be gone.
    known = uri.startswith("file:///") and uri.isascii()
    found = results.history(open_database(environment()), uri if known else uri_of(uri))
    if as_json:
        print_json({"findings": found})
        return
    for row in found:
        typer.echo(f"{row['decided_at'][:19]}\t{progress.line(row)}")
