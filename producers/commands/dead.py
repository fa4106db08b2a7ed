"""`fakesweep dead`: the command for messages that no worker could handle."""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from producers.commands.options import EXIT_FAILED, Json, Yes, confirm, environment, open_broker
from worker.errors import InvalidMessageError, UsageError

if TYPE_CHECKING:
    from producers.dead_letters import DeadLetter

app = typer.Typer()

LEAST_OF_AN_ID = 6
"""Characters that an id must have at least. Otherwise an empty variable in a script could choose a letter."""


class Action(StrEnum):
    """What is done with dead letters."""

    LIST = "list"
    SHOW = "show"
    REPLAY = "replay"
    DISCARD = "discard"


@app.command()
def dead(
    action: Annotated[Action, typer.Argument(metavar="list|show|replay|discard", help="What to do.")],
    letters: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LETTER...]", help="Ids as list prints them. The first six characters are enough."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show, replay or discard all letters.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """List, show, replay or discard dead letters: messages that no worker could handle.

    list prints one line for each letter: its id, its time, its queue and the reason. show prints whole letters. replay
    publishes the messages again, and discard deletes them.
    """
    from producers import dead_letters
    from producers.dead_letters import Act

    wanted = {Action.REPLAY: Act.REPLAY, Action.DISCARD: Act.DISCARD}.get(action, Act.KEEP)
    _check(action, letters or [], every=every, ask=not yes and as_json)
    celery = open_broker(environment())
    there = {letter.id: letter for letter in dead_letters.look_through(celery, lambda _: Act.KEEP)}
    chosen = set(there) if every or action is Action.LIST else {_one(there, given) for given in letters or []}
    refused = {} if wanted is not Act.REPLAY else _refused(there[one] for one in chosen)
    for one, reason in refused.items():
        typer.echo(f"{one} cannot be replayed: {reason}", err=True)
    chosen -= set(refused)
    if action is Action.DISCARD and chosen:
        confirm(f"This deletes dead letters: {len(chosen)}", yes=yes)
    if wanted is not Act.KEEP:
        dead_letters.look_through(celery, lambda letter: wanted if letter.id in chosen else Act.KEEP)
    _show(action, [letter.row() for letter in there.values() if letter.id in chosen], as_json=as_json)
    if refused:
        raise typer.Exit(EXIT_FAILED)


def _one(there: "Mapping[str, DeadLetter]", given: str) -> str:
    """Returns the one id that begins with `given`. Raises UsageError if there is none, or more than one.

    All ids are checked before anything is done, so that a wrong id does not leave the work half done.
    """
    found = [one for one in there if one.startswith(given)] if len(given) >= LEAST_OF_AN_ID else []
    if len(found) != 1:
        what = "several dead letters have ids that begin with" if found else "no dead letter has an id like"
        raise UsageError(f"{what} {given!r}: give an id as fakesweep dead list prints it")
    return found[0]


def _refused(letters: "Iterable[DeadLetter]") -> dict[str, str]:
    """Returns why letters cannot be replayed, by their ids."""
    reasons = {}
    for letter in letters:
        try:
            letter.job()
        except InvalidMessageError as error:
            reasons[letter.id] = str(error)
    return reasons


def _check(action: Action, letters: list[str], *, every: bool, ask: bool) -> None:
    if action is Action.DISCARD and ask:
        raise UsageError("discard --json cannot ask for confirmation: give --yes")
    if action is Action.LIST:
        if letters or every:
            raise UsageError("list takes no ids: it prints all dead letters")
    elif bool(letters) == every:
        raise UsageError(f"{action} needs the ids of letters, or --all")


def _show(action: Action, rows: list[dict[str, object]], *, as_json: bool) -> None:
    from producers.reporting.progress import printable

    if as_json:
        typer.echo(json.dumps({"letters": rows}))  # in ASCII: a payload may hold halves of surrogate pairs
    elif action is Action.SHOW:
        for row in rows:
            typer.echo(json.dumps(row))
    elif action is Action.LIST:
        for row in rows:
            typer.echo(printable(f"{row['id']}  {row['at'] or '-'}  {row['queue'] or '-'}  {row['reason']}"))
    else:
        typer.echo(f"dead letters {'replayed' if action is Action.REPLAY else 'discarded'}: {len(rows)}")
