"""The command for messages that nobody could handle."""

from enum import StrEnum
from typing import Annotated

import typer

from producers.commands.options import Json, environment, open_broker, print_json
from worker.errors import InvalidMessageError, UsageError

app = typer.Typer()

EXIT_FAILED = 1


class Action(StrEnum):
    """What is done with dead letters."""

    LIST = "list"
    SHOW = "show"
    REPLAY = "replay"
    DISCARD = "discard"


@app.command()
def dead(
    action: Annotated[Action, typer.Argument(metavar="list|show|replay|discard", help="What to do with them.")],
    letters: Annotated[
        list[str] | None, typer.Argument(metavar="[LETTER...]", help="Ids, as list prints them, or their beginnings.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Replay or discard all of them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Discard without asking.")] = False,
    as_json: Json = False,
) -> None:
    """List, show, replay or discard messages that no worker could handle.

    list prints one line a letter: its id, when it came, its queue and the reason. show prints whole letters. replay
    publishes the messages again. discard throws them away.
    """
    from producers import dead_letters
    from producers.dead_letters import Act

    wanted = {Action.REPLAY: Act.REPLAY, Action.DISCARD: Act.DISCARD}.get(action, Act.KEEP)
    _check(action, letters or [], every=every)
    celery = open_broker(environment())
    if action is Action.DISCARD and not yes:
        typer.confirm(f"Throw {'all dead letters' if every else ', '.join(letters or [])} away?", abort=True)
    missing, refused = set(letters or []), 0
    rows = []

    def act(letter: dead_letters.DeadLetter) -> Act:
        nonlocal refused
        named = {one for one in letters or [] if letter.id.startswith(one)}
        missing.difference_update(named)
        if not (named or every or action is Action.LIST):
            return Act.KEEP
        if wanted is Act.REPLAY:
            try:
                letter.job()
            except InvalidMessageError as error:
                refused += 1
                typer.echo(f"{letter.id} cannot be replayed: {error}", err=True)
                return Act.KEEP
        rows.append(letter.row())
        return wanted

    for _ in dead_letters.look_through(celery, act):
        continue
    _show(action, rows, as_json=as_json)
    if missing:
        raise UsageError(f"no dead letter has the id {', '.join(sorted(missing))}; fakesweep dead list prints them")
    if refused:
        raise typer.Exit(EXIT_FAILED)


def _check(action: Action, letters: list[str], *, every: bool) -> None:
    if action is Action.LIST:
        if letters or every:
            raise UsageError("list takes no ids: it prints all dead letters")
    elif bool(letters) == every:
        raise UsageError(f"{action} takes the ids of letters, or --all")


def _show(action: Action, rows: list[dict[str, object]], *, as_json: bool) -> None:
    from producers.reporting.progress import printable

    if as_json:
        print_json(rows)
    elif action is Action.SHOW:
        for row in rows:
            print_json(row)
    elif action is Action.LIST:
        for row in rows:
            typer.echo(printable(f"{row['id']}  {row['at'] or '-'}  {row['queue'] or '-'}  {row['reason']}"))
    else:
        typer.echo(f"{len(rows)} dead letters {'replayed' if action is Action.REPLAY else 'discarded'}")
