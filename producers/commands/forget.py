"""The command that forgets a person's picture."""

from typing import Annotated

import typer

from producers.commands.options import EXIT_FAILED, Yes, confirm, environment, open_database, uri_of

app = typer.Typer()


@app.command()
def forget(
    picture: Annotated[str, typer.Argument(metavar="URI|SHA256", help="A place, or a content at all its places.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Yes = False,
) -> None:
    """Remove what points to a person's picture. What was decided about it stays, under its SHA-256.

    Delete the picture in the storage first: a later scan would find it again. This cannot be undone.
    """
    from producers import forgetting
    from producers.reporting.progress import printable, say

    known = (picture.startswith("file:///") and picture.isascii()) or forgetting.SHA256.fullmatch(picture)
    database = open_database(environment())
    named = picture if known else uri_of(picture)
    found = forgetting.find_picture(database, named)
    if not dry_run:
        forgetting.check_releases(database)
        confirm(f"This removes what points to {found}", yes=yes)
        found = forgetting.find_picture(database, named)  # a person may take long to confirm
    done = forgetting.forget(database, found, dry_run=dry_run)
    typer.echo(f"{'would forget' if dry_run else 'forgot'} {found}")
    for kind, rows in done.rows.items():
        typer.echo(f"  {kind}: {rows} rows")
    if found.elsewhere:
        say(f"the same picture is at {found.elsewhere} other places, and its explanation stays. To forget it there:")
        for sha256 in sorted(found.about - found.whole):
            say(f"  fakesweep forget {sha256}")
    if done.at_work:
        say(f"{done.at_work} scans are at work, and a message may still name the picture: run this again when they end")
    for scan in done.held_by:
        say(printable(f"scan {scan} and still names the picture: cancel it or let it end, and run this again"))
    again = not dry_run and forgetting.is_named_again(database, found)
    if again:
        say("something was written meanwhile: run this again")
    if done.held_by or again:
        raise typer.Exit(EXIT_FAILED)
