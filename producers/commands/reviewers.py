"""The command for people who may review."""

from enum import StrEnum
from typing import Annotated

import typer

from producers.commands.options import environment, open_database
from worker.errors import UsageError

app = typer.Typer()


class Action(StrEnum):
    """What is done with reviewers."""

    ADD = "add"
    LIST = "list"
    DISABLE = "disable"


@app.command()
def reviewer(
    action: Annotated[Action, typer.Argument(metavar="add|list|disable", help="What to do.")],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A pseudonym: reviews show it.")] = None,
) -> None:
    """Add, list or disable people who may review.

    add takes back that somebody was disabled. Reviews of somebody who is disabled stay, and count.
    """
    from producers import reviews
    from producers.reporting.progress import printable

    if (action is Action.LIST) != (name is None):
        raise UsageError("list takes no name" if name else f"{action} takes the name of a reviewer")
    database = open_database(environment())
    if name is None:
        for one in reviews.reviewers(database):
            typer.echo(printable(f"{one.name}  {'active' if one.active else 'disabled'}"))
    elif action is Action.ADD:
        reviews.add_reviewer(database, name)
    else:
        reviews.disable_reviewer(database, name)
