"""The commands for the duties of a platform under the EU's Digital Services Act."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from producers.commands.options import Json, environment, open_database, print_json, time_of
from worker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

app = typer.Typer()
dsa = typer.Typer(
    help="Write statements of reasons for the DSA Transparency Database, and count errors for the yearly report.",
)
app.add_typer(dsa, name="dsa")
app.callback()(lambda: None)  # typer makes no group of a single command


@dsa.command()
def export(
    since: Annotated[str, typer.Option(metavar="TIME", help="Decisions of this time or later (ISO 8601).")],
    until: Annotated[str, typer.Option(metavar="TIME", help="Decisions before this time (ISO 8601).")],
    statement: Annotated[
        Path, typer.Option(metavar="FILE.toml", help="What your platform does with fakes, in the database's fields.")
    ],
    uploads: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Days of upload: columns picture (uri or SHA-256) and date.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="A file instead of stdout.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV, and not the bodies of requests.")] = False,
) -> None:
    """Write a statement of reasons for each decision of people that a picture is fake.

    Each line is the body of one request to the database's API, with at most 100 statements.
    """
    from producers.dsa.statements import Made, read_uploads
    from producers.dsa.templates import read_templates
    from producers.reporting.progress import say
    from worker.files import replacing

    start, end = time_of(since, "--since"), time_of(until, "--until")
    if start is None or end is None or start >= end:
        raise UsageError(f"--until {until} must be later than --since {since}")
    templates = read_templates(statement)
    days, made = read_uploads(uploads) if uploads else {}, Made()
    lines = _lines((start, end), templates, days, made, as_csv=as_csv)
    if output is None:
        sys.stdout.writelines(lines)
    else:
        with replacing(output) as file:
            file.writelines(lines)
    for line in made.lines(templates):
        say(line)


def _lines(
    period: "tuple[datetime, datetime]", templates: Any, uploads: "Mapping[str, str]", made: Any, *, as_csv: bool
) -> "Iterator[str]":
    from producers.dsa.decisions import decisions, pseudonyms
    from producers.dsa.statements import csv_lines, requests, statements
    from worker.database import transaction

    with transaction(open_database(environment())) as session:
        templates.check_names(pseudonyms(session))
        records = statements(decisions(session, *period), templates, uploads, made)
        yield from csv_lines(records) if as_csv else requests(records)


@dsa.command()
def report(
    year: Annotated[int, typer.Option(min=2000, max=2100, help="The year of the report (UTC).")],
    as_json: Json = False,
) -> None:
    """Count for the yearly report how often people overturned the detectors, and how appeals ended."""
    from producers.dsa.rates import report as counted

    found = counted(open_database(environment()), year)
    if as_json:
        print_json(found)
        return
    from producers.dsa.printing import report_lines

    for line in report_lines(found):
        typer.echo(line)
