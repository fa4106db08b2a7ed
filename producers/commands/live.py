"""Commands for images that people wait for."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from producers.commands.options import (
    Also,
    ExplainOption,
    FakeFrom,
    Json,
    JudgeOption,
    MaxBytes,
    MaxTokens,
    MinBytes,
    RealTo,
    Suffix,
    attendance_of,
    checked,
    environment,
    finite,
    metrics_on,
    open_broker,
    open_database,
    print_json,
    uri_of,
)
from worker.errors import FakesweepError, UsageError
from worker.messages import LIVE_QUEUE, Explain, ImageRef, Policy
from worker.wording import first_fault

if TYPE_CHECKING:
    from worker.settings import Settings

app = typer.Typer()


@app.command()
def submit(
    uris: Annotated[list[str], typer.Argument(metavar="URI...", help="s3://bucket/key, file:///path or a path.")],
    external_id: Annotated[
        str | None, typer.Option(help="Your own id of the image, given back with the result.")
    ] = None,
    explain: ExplainOption = Explain.FLAGGED,
    fake_from: FakeFrom = None,
    real_to: RealTo = None,
    max_tokens: MaxTokens = None,
    judge: JudgeOption = False,
    also: Also = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the verdicts and print them.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", callback=finite, help="With --wait: fail after this many seconds."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put images on the live queue, ahead of every scan, and print the submission's id."""
    from producers import submissions
    from producers.reporting import progress, results

    policy = checked(Policy, explain=explain, fake_from=fake_from, real_to=real_to, max_tokens=max_tokens, judge=judge,
                     also=also or ())  # fmt: skip
    if external_id is not None and len(uris) > 1:
        raise UsageError("--external-id names one image: give one URI")
    if timeout is not None and not wait:
        raise UsageError("--timeout limits --wait: give both")
    try:
        refs = [ImageRef(uri=uri, external_id=external_id) for uri in dict.fromkeys(map(_image, uris))]
    except ValidationError as error:
        raise UsageError(f"{error.errors()[0]['input']}: {first_fault(error)}") from None
    settings = environment()
    database = open_database(settings)
    broker = open_broker(settings)
    scan_id = submissions.submit(broker, database, refs, policy=policy)
    found: list[dict[str, Any]] = []
    counts = results.progress(database, scan_id)
    if wait:
        progress.say(f"submission {scan_id}")  # at once: people who stop waiting can find it again
        counts = progress.watch(database, scan_id, look=attendance_of(broker, LIVE_QUEUE).look, timeout_s=timeout)
        found = list(results.rows(database, scan_id))
    if as_json:
        print_json(counts | ({"results": found} if wait else {}))
    else:
        typer.echo(str(scan_id))
        for row in found:
            typer.echo(progress.line(row))
    if wait and counts["status"] not in progress.WAITING_ENDS:
        left = counts["listed"] - progress.decided(counts)
        raise FakesweepError(
            f"after {timeout:g} s, {left} of {counts['listed']} images have no outcome. They stay in the queue: "
            f"`fakesweep status {scan_id}` shows how they are, `fakesweep results {scan_id}` what was found"
        )


def _image(text: str) -> str:
    """The uri of an image. Raises UsageError for a folder, and for a file that is certainly none."""
    from producers.sources import check_image
    from worker.errors import UnknownSourceError
    from worker.files import local_path

    uri = uri_of(text)
    if uri.startswith("file:///"):
        try:
            check_image(local_path(uri))
        except UnknownSourceError as error:
            raise UsageError(str(error)) from None
    return uri


@app.command()
def listen(
    queue_url: Annotated[str, typer.Argument(metavar="QUEUE_URL", help="The SQS queue that S3 notifies.")],
    suffix: Suffix = None,
    min_bytes: MinBytes = None,
    max_bytes: MaxBytes = None,
    explain: Annotated[Explain | None, typer.Option(help="For which images the model writes its reasons.")] = None,
    judge: JudgeOption = False,
    also: Also = None,
    once: Annotated[bool, typer.Option("--once", help="End when the queue is empty.")] = False,
) -> None:
    """Put new objects of S3 on the live queue, until SIGTERM."""
    from producers.counting import count_nothing
    from producers.listening import listen as listening
    from producers.listing import Rules
    from worker import telemetry

    rules = checked(Rules, suffixes=tuple(suffix or ()), min_bytes=min_bytes, max_bytes=max_bytes)
    policy = checked(Policy, judge=judge, also=also or ())
    settings = environment()
    telemetry.configure_logging(settings)
    telemetry.init_sentry(settings)
    try:
        if policy.judge or policy.also:
            _check_ready(settings, policy)
        with metrics_on(settings.listen_port, "FAKESWEEP_LISTEN_PORT") as count:
            listening.listen(
                open_broker(settings), queue_url, rules=rules, explain=explain, judge=policy.judge, also=policy.also,
                once=once, count=count or count_nothing,
            )  # fmt: skip
    finally:
        telemetry.flush()


def _check_ready(settings: "Settings", policy: Policy) -> None:
    """Asks Postgres once whether the workers can do what a listener will ask for. It runs without Postgres after this.

    Raises ConfigurationError, NoSuchDetectorError, OlderAtWorkError.
    """
    from producers.further import ready_policy
    from worker.database import transaction

    database = open_database(settings, pool_size=1, process="listen")
    try:
        with transaction(database) as session:
            ready_policy(session, policy)
    finally:
        database.dispose()
