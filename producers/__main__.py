"""The `fakesweep` command line. Exit codes: 0 done, 1 failed, 2 bad usage or configuration."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import typer
import typer.exceptions
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from producers import progress, reports, results, scans, sources
from worker import broker, database
from worker.errors import ConfigurationError, FakesweepError, Reason
from worker.messages import Explain, ImageRef, Policy
from worker.migrate import check_schema, upgrade
from worker.settings import Settings
from worker.storage import ImageStores, LocalImageStore, S3ImageStore

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="fakesweep",
    help="Sweeps image archives for AI-generated and deepfaked images. It flags; people decide.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

ScanId = Annotated[UUID, typer.Argument(metavar="SCAN", help="The scan's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]
ExplainOption = Annotated[Explain, typer.Option(help="For which images the model writes its reasons.")]
FakeFromOption = Annotated[float | None, typer.Option(help="Fake from this score up; else the detector's threshold.")]
RealToOption = Annotated[float | None, typer.Option(help="Real from this score down; else the detector's threshold.")]
MaxTokensOption = Annotated[int | None, typer.Option(help="Longest answer in tokens, below the detector's limit.")]


class UsageError(FakesweepError):
    """The command line asks for something that cannot be."""


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date. Many may start at once; one does it."""
    url = Settings.from_environment().database_url.get_secret_value()
    typer.echo(f"schema at revision {upgrade(database.connect(url))}")


@app.command()
def worker(
    gpus: Annotated[
        str | None, typer.Option(metavar="all|0,1,…", help="A process for each GPU, started again when it dies.")
    ] = None,
) -> None:
    """Run a worker: take messages, judge their images, write findings."""
    if gpus is not None:
        from worker.replicas import main as run_replicas  # noqa: PLC0415

        raise typer.Exit(run_replicas(gpus))
    from worker.__main__ import main as run_worker  # noqa: PLC0415 - the other commands stay light

    raise typer.Exit(run_worker())


@app.command()
def scan(
    source: Annotated[
        str, typer.Argument(help="s3://bucket/prefix, a folder, or a manifest (.jsonl, .csv[.gz], .parquet).")
    ],
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    token: Annotated[str | None, typer.Option(help="Starting twice with one token starts one scan.")] = None,
    explain: ExplainOption = Explain.FLAGGED,
    fake_from: FakeFromOption = None,
    real_to: RealToOption = None,
    max_tokens: MaxTokensOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Wait until every image has its outcome.")] = False,
    as_json: Json = False,
) -> None:
    """Publish every image of SOURCE, and print the scan's id."""
    policy = _policy(explain, fake_from, real_to, max_tokens)
    settings = Settings.from_environment()
    postgres = _database(settings)
    celery = _broker(settings)
    next(iter(sources.list_source(source, lambda _line: None)), None)  # a source that is not there makes no scan
    started = scans.start_scan(postgres, source, name=name, token=token, policy=policy)
    with progress.shown("listing", total=None) as advance:
        scans.publish_scan(celery, postgres, started, skip=progress.warn, listed=lambda count: advance(count, None))
    if watch:
        progress.watch(postgres, started.id)
    if as_json:
        _print_json(results.progress(postgres, started.id))
    else:
        typer.echo(str(started.id))


@app.command()
def submit(
    uris: Annotated[list[str], typer.Argument(metavar="URI...", help="s3://bucket/key or file:///path.")],
    external_id: Annotated[
        str | None, typer.Option(help="Your own id of the image, given back with the result.")
    ] = None,
    explain: ExplainOption = Explain.FLAGGED,
    fake_from: FakeFromOption = None,
    real_to: RealToOption = None,
    max_tokens: MaxTokensOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the verdicts and print them.")] = False,
    as_json: Json = False,
) -> None:
    """Put images on the live queue, ahead of every scan, and print the submission's id."""
    policy = _policy(explain, fake_from, real_to, max_tokens)
    if external_id is not None and len(uris) > 1:
        raise UsageError("--external-id names one image: give one URI")
    try:
        refs = [ImageRef(uri=uri, external_id=external_id) for uri in dict.fromkeys(uris)]
    except ValidationError as error:
        raise UsageError(f"{error.errors()[0]['input']}: {error.errors()[0]['msg']}") from None
    settings = Settings.from_environment()
    postgres = _database(settings)
    scan_id = scans.submit(_broker(settings), postgres, refs, policy=policy)
    found: list[dict[str, Any]] = []
    if wait:
        progress.watch(postgres, scan_id)
        found = list(results.rows(postgres, scan_id))
    if as_json:
        _print_json(results.progress(postgres, scan_id) | ({"results": found} if wait else {}))
        return
    typer.echo(str(scan_id))
    for row in found:
        typer.echo(progress.line(row))


@app.command()
def status(
    scan_id: Annotated[
        UUID | None, typer.Argument(metavar="[SCAN]", help="A scan's id; without it, the newest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how far a scan is, or the newest scans."""
    postgres = _database(Settings.from_environment())
    if scan_id is None:
        recent = results.recent_scans(postgres)
        _print_json({"scans": recent}) if as_json else progress.print_scans(recent)
        return
    found = results.summary(postgres, scan_id)
    _print_json(found) if as_json else progress.print_summary(found)


@app.command()
def retry(
    scan_id: ScanId,
    reason: Annotated[list[Reason] | None, typer.Option(help="Only these reasons; may be given again.")] = None,
) -> None:
    """Judge failed images of SCAN again: those whose storage or engine failed, or those of --reason."""
    settings = Settings.from_environment()
    postgres = _database(settings)
    count = scans.retry(_broker(settings), postgres, scan_id, reason or scans.RETRYABLE)
    typer.echo(f"{count} images published again")


@app.command(name="results")
def results_(
    scan_id: ScanId,
    output: Annotated[Path | None, typer.Option(help="A file instead of stdout.")] = None,
) -> None:
    """Write a scan's findings as JSON Lines, one an image."""
    postgres = _database(Settings.from_environment())
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in results.rows(postgres, scan_id))
    if output is None:
        sys.stdout.writelines(lines)
        return
    with output.open("w", encoding="utf-8") as file:
        file.writelines(lines)


@app.command()
def report(
    scan_id: ScanId,
    output: Annotated[Path, typer.Option(help="The HTML file to write.")],
) -> None:
    """Write a scan's report: one HTML file that opens offline."""
    settings = Settings.from_environment()
    postgres = _database(settings)
    limits = {"max_bytes": settings.max_bytes}
    store = ImageStores(
        S3ImageStore(**limits, timeout_s=settings.fetch_timeout_s, allowed_buckets=settings.allowed_buckets),
        LocalImageStore(**limits, allowed_folders=settings.allowed_folders),
    )
    reports.write_report(
        results.summary(postgres, scan_id),
        results.rows(postgres, scan_id),
        lambda uri, etag: store.fetch(ImageRef(uri=uri, etag=etag)),
        output,
    )


def _policy(explain: Explain, fake_from: float | None, real_to: float | None, max_tokens: int | None) -> Policy:
    try:
        return Policy(explain=explain, fake_from=fake_from, real_to=real_to, max_tokens=max_tokens)
    except ValidationError as error:
        fault = error.errors()[0]
        option = "".join(f"--{part} ".replace("_", "-") for part in map(str, fault["loc"]))
        raise UsageError(f"{option}{fault['msg'].removeprefix('Value error, ')}") from None


def _database(settings: Settings) -> Engine:
    postgres = database.connect(settings.database_url.get_secret_value())
    check_schema(postgres)
    return postgres


def _broker(settings: Settings) -> Any:
    celery = broker.create_app(settings.broker_url.get_secret_value())
    broker.check_broker(celery)
    return celery


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))


def main() -> NoReturn:
    """Runs the command line. Every error of ours is one line on stderr."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except typer.exceptions.TyperException as error:
        said = error.format_message() if hasattr(error, "format_message") else str(error)
        _fail(f"{said} (see fakesweep --help)", EXIT_USAGE)
    except (ConfigurationError, UsageError, sources.UnknownSourceError) as error:
        _fail(error, EXIT_USAGE)
    except (FakesweepError, SQLAlchemyError, OSError) as error:
        _fail(error, EXIT_FAILED)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: Exception | str, code: int) -> NoReturn:
    print(f"fakesweep: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
