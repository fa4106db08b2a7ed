"""Commands that drop findings that nobody needs any more."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from producers.commands.options import ScanName, Yes, confirm, environment, open_database
from worker.errors import LockedError, ScanStateError

app = typer.Typer()

EXIT_SKIPPED = 1


@app.command()
def retention(
    keep_days: Annotated[
        int, typer.Option(min=1, max=36_500, help="Drop the findings of scans that ended more than this many days ago.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be dropped.")] = False,
    yes: Yes = False,
) -> None:
    """Drop the findings of old scans and submissions. Scans, verdicts, objects and reviews stay."""
    from producers import retention as dropping
    from producers.reporting.progress import printable

    database = open_database(environment())
    before = datetime.now(UTC) - timedelta(days=keep_days)
    skipped = False
    droppable = dropping.droppable(database, before)
    if droppable and not dry_run:
        count = sum(found.findings for found in droppable)
        confirm(f"This deletes {count} findings of scans that ended before {before:%Y-%m-%d}", yes=yes)
    for found in droppable:
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
def drop(scan: ScanName, yes: Yes = False) -> None:
    """Drop the findings of SCAN, which has ended. The scan, its verdicts and its reviews stay."""
    from producers import retention as dropping
    from producers.reporting.progress import printable
    from producers.scan_names import scan_named

    database = open_database(environment())
    found = dropping.check_droppable(database, scan_named(database, scan))
    which = printable(f"{found.judged + found.reused + found.failed} findings of scan {found.id} ({found.name})")
    confirm(f"This deletes {which}", yes=yes)
    dropping.drop_scan(database, found.id)
    typer.echo(f"dropped {which}")
