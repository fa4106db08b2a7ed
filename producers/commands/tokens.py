"""The command for tokens of the API."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.commands.options import Json, Yes, confirm, environment, open_database, print_json
from worker.errors import UsageError

if TYPE_CHECKING:
    from worker.database import Database
    from worker.tables import ApiToken

app = typer.Typer()


class Action(StrEnum):
    """What is done with tokens."""

    ADD = "add"
    LIST = "list"
    WITHDRAW = "withdraw"


@app.command()
def token(
    action: Annotated[Action, typer.Argument(metavar="add|list|withdraw", help="What to do.")],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The token's name.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do: submit, read, review, scan. Can be repeated.")
    ] = None,
    reviewer: Annotated[str | None, typer.Option(help="The author of its reviews, for the scope review.")] = None,
    days: Annotated[int | None, typer.Option(help="After how many days it expires. Default: never.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Make, list or withdraw tokens of the API.

    add prints the token once: only its SHA-256 is stored. withdraw cannot be undone.
    """
    from producers import tokens

    if (action is Action.LIST) != (name is None):
        raise UsageError("list takes no name" if name else f"{action} takes the name of a token")
    if action is not Action.ADD and (scope or reviewer or days is not None):
        raise UsageError("--scope, --reviewer and --days belong to add")
    if yes and action is not Action.WITHDRAW:
        raise UsageError("--yes belongs to withdraw")
    if as_json and action is Action.WITHDRAW:
        raise UsageError("--json belongs to add and list")
    database = open_database(environment())
    if name is None:
        _list(database, as_json=as_json)
    elif action is Action.WITHDRAW:
        tokens.check_token(database, name)
        confirm(f"This withdraws the token {name}, and cannot be undone", yes=yes)
        tokens.withdraw_token(database, name)
    else:
        made = tokens.add_token(database, tokens.Wanted(name, _scopes(scope or []), reviewer, days))
        if as_json:
            print_json({"name": name, "token": made})
        else:
            typer.echo(made)


def _scopes(given: list[str]) -> list[Any]:
    from worker.tables import Scope

    unknown = [text for text in given if text not in set(Scope)]
    if unknown:
        raise UsageError(f"--scope {unknown[0]}: give one of {', '.join(Scope)}")
    return [Scope(text) for text in given]


def _list(database: "Database", *, as_json: bool) -> None:
    from producers import tokens
    from producers.reporting.progress import printable

    rows = [_row(one) for one in tokens.tokens(database)]
    if as_json:
        print_json({"tokens": rows})
        return
    for row in rows:
        who = f"  as {row['reviewer']}" if row["reviewer"] else ""
        until = f"  until {row['expires_at'][:10]}" if row["expires_at"] else ""
        typer.echo(printable(f"{row['name']}  {row['state']}  {','.join(row['scopes'])}{who}{until}"))


def _row(token: "ApiToken") -> dict[str, Any]:
    from producers import tokens

    shown = token.model_dump(mode="json", exclude={"id", "token_sha256"})
    return shown | {"state": tokens.state_of(token, datetime.now(UTC))}
