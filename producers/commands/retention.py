"""Commands that drop findings which nobody needs any more."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from producers.commands.options import ScanId, environment, open_database
from worker.errors import LockedError, ScanStateError

app = typer.Typer()

EXIT_SKIPPED = 1


@app.command()
def retention(
    keep_days: Annotated[int, typer.Option(min=1, help="Drop the findings of scans that ended longer ago.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be dropped.")] = False,
) -> None:
    """Drop the findings of old scans and submissions. Scans, verdicts, objects and reviews stay."""
    from producers import retention as dropping
    from producers.reporting.progress import printable

    database = open_database(environment())
    before = datetime.now(UTC) - timedelta(days=keep_days)
    skipped = False
    for found in dropping.droppable(database, before):
        if dry_run:
            typer.echo(printable(f"would drop {found}"))
            continue
        try:
            dropping.drop_partition(database, found.partition, before)
        except (LockedError, ScanStateError) as error:
            skipped = True
            typer.echo(printable(f"skipped {found}: {error}"), err=True)
        else:
            typer.echo(printable(f"dropped {found}"))
    if not dry_run:
        dropping.forget_messages(database, before)
    for found in dropping.held_back(database, before):
        typer.echo(printable(f"kept {found}: scan {found.held_by}; cancel it, or let it end"))
    if skipped:
        raise typer.Exit(EXIT_SKIPPED)


@app.command()
def drop(scan_id: ScanId) -> None:
    """Drop the findings of SCAN, which has ended. The scan, its verdicts and its reviews stay."""
    from producers import retention as dropping
    from producers.reporting.progress import printable

    scan = dropping.drop_scan(open_database(environment()), scan_id)
    count = scan.judged + scan.reused + scan.failed
    typer.echo(printable(f"dropped {count} findings of scan {scan_id} ({scan.name})"))
