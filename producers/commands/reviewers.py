"""The command for people who may review."""

from enum import StrEnum
from typing import Annotated

import typer

from producers.commands.options import Yes, confirm, environment, open_database
from worker.errors import UsageError

app = typer.Typer()


class Action(StrEnum):
    """What is done with reviewers."""

    ADD = "add"
    LIST = "list"
    DISABLE = "disable"
    UNLINK = "unlink"


class Role(StrEnum):
    """What somebody may do at the review desk: worker.tables.DeskRole, without the tables' imports."""

    REVIEWER = "reviewer"
    LEAD = "lead"
    ADMIN = "admin"


@app.command()
def reviewer(
    action: Annotated[Action, typer.Argument(metavar="add|list|disable|unlink", help="What to do.")],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A pseudonym: reviews show it.")] = None,
    role: Annotated[
        Role | None, typer.Option(help="The role at the review desk. A new reviewer gets the role reviewer.")
    ] = None,
    login: Annotated[
        list[str] | None,
        typer.Option(metavar="LOGIN", help="Their login, as the review desk shows it. Can be repeated."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Add, list or disable people who may review.

    add also enables a disabled reviewer, and changes a role. Reviews of a disabled reviewer stay, and count. unlink
    deletes all logins of a reviewer, so that nothing links the pseudonym with a person.
    """
    from producers import reviews
    from producers.reporting.progress import printable
    from worker.tables import DeskRole

    if (action is Action.LIST) != (name is None):
        raise UsageError("list takes no name" if name else f"{action} takes the name of a reviewer")
    if action is not Action.ADD and (role or login):
        raise UsageError("--role and --login go with add")
    if yes and action is not Action.UNLINK:
        raise UsageError("--yes belongs to unlink")
    database = open_database(environment())
    if name is None:
        logins = reviews.logins(database)
        for one in reviews.reviewers(database):
            known = [one.name, "active" if one.active else "disabled", one.role, *logins.get(one.name, [])]
            typer.echo(printable("  ".join(known)))
    elif action is Action.ADD:
        reviews.add_reviewer(database, name, DeskRole(role) if role else None, login or [])
    elif action is Action.UNLINK:
        reviews.check_reviewer(database, name)
        confirm(f"This deletes all logins of {name}", yes=yes)
        reviews.unlink_reviewer(database, name)
    else:
        reviews.disable_reviewer(database, name)
