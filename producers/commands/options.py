"""What many commands share: options, and the parts that they work with.

The commands import what they work with when they run: see `producers/commands/__init__.py`.
"""

import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from producers.commands.completion import complete_scan
from worker.errors import BadRowError, UsageError
from worker.messages import Explain, Record
from worker.wording import worded

if TYPE_CHECKING:
    from celery import Celery

    from producers.bulk import BulkPublisher
    from producers.counting import Count
    from producers.listeners import Attendance
    from worker.database import Database, Patience
    from worker.settings import Settings

ScanName = Annotated[
    str,
    typer.Argument(
        metavar="SCAN",
        help="A scan's id, the first characters of it (4 or more), or its name.",
        autocompletion=complete_scan,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
RequireImages = Annotated[
    bool, typer.Option("--require-images", help="Fail if the source has no image: perhaps it is mistyped.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]
Watch = Annotated[bool, typer.Option("--watch", help="Wait until every image has its outcome.")]
ExplainOption = Annotated[Explain, typer.Option(help="For which images the model writes its reasons.")]
FakeFrom = Annotated[float | None, typer.Option(help="Fake from this score up. Default: the detector's threshold.")]
RealTo = Annotated[float | None, typer.Option(help="Real from this score down. Default: the detector's threshold.")]
MaxTokens = Annotated[int | None, typer.Option(help="Longest answer in tokens, below the detector's limit.")]
JudgeOption = Annotated[bool, typer.Option("--judge", help="The judge of a cascade sees every image.")]
Also = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DETECTOR",
        help="Also ask this further detector of the workers (FAKESWEEP_ALSO) for a second opinion. Can be repeated.",
    ),
]
RecordOption = Annotated[
    Record,
    typer.Option(
        help="Store a finding for each image (all), or only for images that have changed since the last time (changes)."
    ),
]
Suffix = Annotated[list[str] | None, typer.Option(help="Only keys that end with this. Can be repeated.")]
MinBytes = Annotated[int | None, typer.Option(help="Only objects of this size or more.")]
MaxBytes = Annotated[int | None, typer.Option(help="Only objects of this size or less.")]
MaxFlaggedShare = Annotated[
    float | None, typer.Option(min=0, max=1, help="Pause when a larger share of the images is flagged; 1 is no limit.")
]
MaxFailedShare = Annotated[
    float | None, typer.Option(min=0, max=1, help="Pause when a larger share of the images failed; 1 is no limit.")
]


EXIT_FAILED = 1

Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], **options: Any) -> Model:
    """The model of these options; what does not fit is a UsageError that names the option."""
    try:
        return model(**options)
    except ValidationError as error:
        fault = error.errors()[0]
        option = "".join(f"{_option(part)} " for part in fault["loc"] if isinstance(part, str))
        text = re.sub(r"\b[a-z_]+\b", lambda word: _option(word[0]) if word[0] in options else word[0], worded(fault))
        raise UsageError(f"{option}{text}") from None


def _option(field: str) -> str:
    return "--suffix" if field == "suffixes" else f"--{field.replace('_', '-')}"


def finite(value: float | None) -> float | None:
    """The value of an option. Raises BadParameter for `inf` and `nan`."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("must be a finite number")
    return value


def uri_of(text: str) -> str:
    """The uri of an image that an argument names: `s3://bucket/key`, `file:///path`, or a path. Raises UsageError."""
    from producers.sources.given import given_uri

    try:
        # A uri has a colon before its first slash; a path of this machine may be relative.
        relative = ":" not in text.partition("/")[0] and "\0" not in text and os.path.lexists(text)
        return given_uri(os.path.abspath(text) if relative else text)  # noqa: PTH100 - Path would resolve nothing else
    except BadRowError as error:
        raise UsageError(str(error)) from None


def time_of(text: str | None, option: str) -> datetime | None:
    """The time that this option names in ISO 8601; without a zone, it is in UTC. Raises UsageError."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no time: write it as 2026-11-27T02:00:00+00:00 or 2026-11-27") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def environment() -> "Settings":
    """The settings of the environment. Names variables that nobody reads on stderr. Raises ConfigurationError."""
    from producers.commands.variables import warn_of_unknown_variables
    from worker.settings import Settings

    warn_of_unknown_variables()
    return Settings.from_environment()


def confirm(what: str, *, yes: bool) -> None:
    """Asks whether to do what cannot be undone, unless --yes was given. `what` says what that is.

    Raises UsageError when there is no terminal to ask on, and typer.Exit when the answer is no.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(f"{what}. Nobody can be asked here, because stdin is not a terminal: add --yes")
    if not typer.confirm(f"{what}. Continue?", err=True):
        typer.echo("fakesweep: nothing was changed", err=True)
        raise typer.Exit(EXIT_FAILED)


def settings_for(detector: str | None) -> "Settings":
    """The environment's settings with another detector, and a log that leaves the terminal to warnings."""
    from worker import telemetry

    changes = {"log_format": "console", "log_level": "WARNING"} | ({"detector": detector} if detector else {})
    settings = environment().model_copy(update=changes)
    telemetry.configure_logging(settings)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", settings.log_level)
    return settings


def needs_extra(extra: str, error: ImportError) -> UsageError:
    """What to say where the packages of an extra are missing."""
    return UsageError(f"this command needs packages that are not installed ({error}); install fakesweep[{extra}]")


def open_database(
    settings: "Settings", *, pool_size: int = 8, patience: "Patience | None" = None, process: str | None = None
) -> "Database":
    """Postgres, with this release's schema in it; see worker.database.connect.

    What is done there is recorded as done by the person at the command line, or by this kind of process, if it is one
    that nobody sits at. Raises ConfigurationError.
    """
    from worker.database import actors, connect
    from worker.migrate import check_schema

    database = connect(
        settings.database_url.get_secret_value(), pool_size=pool_size, patience=patience,
        actor=actors.process(process) if process else actors.command_line(),
    )  # fmt: skip
    check_schema(database)
    return database


def broker_app(settings: "Settings") -> "Celery":
    """The Celery app. It does not connect yet. Raises ConfigurationError."""
    from worker import broker

    return broker.create_app(settings.broker_url.get_secret_value(), tls=settings.broker_tls)


def open_broker(settings: "Settings") -> "Celery":
    """The Celery app, whose broker answers. Raises ConfigurationError."""
    from worker import broker

    celery = broker_app(settings)
    broker.check_broker(celery)
    return celery


def attendance_of(app: "Celery", queue: str) -> "Attendance":
    """Says on stderr when no worker listens to the queue, while somebody waits for what is in it."""
    from producers.listeners import Attendance, listeners
    from producers.reporting.progress import say

    return Attendance(queue, lambda: listeners(app, queue), say)


def open_publisher(settings: "Settings", warn: Any) -> "BulkPublisher":
    """A publisher that keeps the queue's depth under FAKESWEEP_MAX_QUEUE_DEPTH. Raises ConfigurationError."""
    from producers.bulk import BulkPublisher

    return BulkPublisher(open_broker(settings), max_depth=settings.max_queue_depth, warn=warn)


@contextmanager
def metrics_on(
    port: int | None,
    setting: str,
    database: "Database | None" = None,
    overdue: "Callable[[], Mapping[str, float]] | None" = None,
    app: "Celery | None" = None,
) -> "Iterator[Count | None]":
    """Serves /metrics on the port while the body runs, and gives what counts. Without a port, nothing is loaded for it.

    `database`, `overdue` and `app`: see producers.serving.metrics_served.

    Raises ConfigurationError.
    """
    if port is None:
        yield None
        return
    from producers.serving import metrics_served

    with metrics_served(port, setting, database, app=app, overdue=overdue) as count:
        yield count


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False))
