"""The command that says who did what."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.commands.completion import complete_scan
from producers.commands.options import Json, environment, open_database, print_json, time_of
from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer()


@app.command()
def events(
    scan: Annotated[
        str | None,
        typer.Argument(metavar="[SCAN]", help="Only events of this scan.", autocompletion=complete_scan),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only events at this time or later (ISO 8601).")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only events of this kind, such as scan_paused. Can be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many events are shown at most.")] = 1000,
    as_json: Json = False,
) -> None:
    """Show who did what, the newest last: pauses, limits, tokens, reviewers, retention, and more.

    docs/who-did-what.md lists the kinds. If there are more events than --limit, the newest are shown.
    """
    from producers.reporting.progress import say
    from producers.scan_names import scan_named
    from worker.database import events as recorded
    from worker.database import transaction

    start, kinds = time_of(since, "--since"), _kinds(kind or [])
    database = open_database(environment())
    scan_id = None if scan is None else scan_named(database, scan)
    with transaction(database) as session:
        found = recorded.events(session, scan_id=scan_id, since=start, kinds=kinds, limit=limit + 1)
    rows = [one.model_dump(mode="json") for one in found[-limit:]]
    if len(found) > limit:
        say(f"these are the newest {limit} events, and there are older ones: --limit shows more")
    if as_json:
        print_json({"events": rows})
        return
    for row in rows:
        typer.echo(_line(row))


def _kinds(given: list[str]) -> tuple[str, ...]:
    from worker.tables import EventKind

    unknown = [text for text in given if text not in set(EventKind)]
    if unknown:
        raise UsageError(f"--kind {unknown[0]}: give one of {', '.join(EventKind)}")
    return tuple(given)


def _line(row: "Mapping[str, Any]") -> str:
    """One event on one line: when, what, who, what it was done to, and the note, if there is one."""
    from producers.reporting.progress import printable

    note = (row["details"] or {}).get("note") or ""
    cells = (row["at"][:19], row["kind"], row["actor"], row["subject"] or row["scan_id"] or "", note)
    return "\t".join(printable(cell) for cell in cells)
