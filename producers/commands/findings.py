"""Commands that read what scans found."""

import json
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from producers.commands.options import Json, ScanId, environment, open_database, print_json, uri_of

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
    """Write a scan's findings as JSON Lines, one an image."""
    from producers.reporting import results
    from worker.files import replacing

    database = open_database(environment())
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
    )


@app.command()
def flagged(
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    as_json: Json = False,
) -> None:
    """Show the newest images that any scan flagged."""
    from producers.reporting import results

    _show(results.newest_flagged(open_database(environment()), limit), as_json=as_json)


@app.command()
def history(
    uri: Annotated[str, typer.Argument(metavar="URI", help="s3://bucket/key, file:///path or a path.")],
    as_json: Json = False,
) -> None:
    """Show what every scan found at URI, newest first."""
    from producers.reporting import results

    # As `results` writes it, it is taken as it is: the file may be gone.
    known = uri.startswith("file:///") and uri.isascii()
    _show(results.history(open_database(environment()), uri if known else uri_of(uri)), as_json=as_json)


def _show(found: list[dict[str, object]], *, as_json: bool) -> None:
    from producers.reporting import progress

    if as_json:
        print_json({"findings": found})
        return
    for row in found:
        typer.echo(f"{row['decided_at'][:19]}\t{progress.line(row)}")  # type: ignore[index]
