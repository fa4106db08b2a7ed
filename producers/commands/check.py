"""The command that looks at everything a deployment needs."""

import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from producers.commands.options import Json, print_json
from worker.errors import ConfigurationError

if TYPE_CHECKING:
    from producers.checking.rows import Row

app = typer.Typer()

_STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red", "skipped": "dim"}
Found = TypeVar("Found")


class For(StrEnum):
    """The process whose needs are checked."""

    WORKER = "worker"
    PRODUCER = "producer"
    WEB = "web"
    NIGHTLY = "nightly"
    WEBHOOKS = "webhooks"
    ALL = "all"


@app.command()
def check(
    process: Annotated[
        For,
        typer.Option("--for", help="Check what this process needs. A producer is any command that scans or submits."),
    ] = For.ALL,
    bucket: Annotated[
        str | None, typer.Option(help="The bucket to check, in place of those in FAKESWEEP_ALLOWED_BUCKETS.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check settings, connections, rights, the model and the GPU, and say what to do about what is wrong.

    Nothing is changed. The exit code is 0 if nothing is wrong; warnings are allowed. Otherwise it is 1.
    """
    from producers.checking.rows import ALL, Process, State, Subject
    from producers.checking.running import run_checks
    from producers.web.settings import WebSettings
    from worker.settings import Settings

    subject = Subject(
        ALL if process is For.ALL else frozenset({Process(process)}),
        _or_error(Settings.from_environment),
        _or_error(WebSettings.from_environment),
        os.environ,
        bucket,
    )
    rows = list(run_checks(subject))
    wrong = sum(row.state is State.WRONG for row in rows)
    if as_json:
        print_json({"ok": not wrong, "checks": [row.as_json() for row in rows]})
    else:
        _show(rows)
        typer.echo(f"{wrong} wrong, {sum(row.state is State.WARNING for row in rows)} warnings, {len(rows)} checks")
    raise typer.Exit(int(wrong > 0))


def _or_error(read: Callable[[], Found]) -> Found | ConfigurationError:
    try:
        return read()
    except ConfigurationError as error:
        return error


def _show(rows: "Iterable[Row]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "state", "found", "remedy", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        # Text, because what a server says may look like rich's markup.
        table.add_row(*map(Text, (row.name,)), Text(row.state, _STYLES[row.state]), Text(row.found), Text(row.remedy))
    console = Console()
    console.width = console.width if console.is_terminal else 200
    console.print(table)
