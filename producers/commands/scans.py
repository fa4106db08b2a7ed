"""Commands that start scans, stop them and continue them."""

from typing import TYPE_CHECKING, Annotated

import typer

from producers.commands.going_on import go_on
from producers.commands.options import (
    Also,
    ExplainOption,
    FakeFrom,
    Json,
    MaxBytes,
    MaxFailedShare,
    MaxFlaggedShare,
    MaxTokens,
    MinBytes,
    RealTo,
    RecordOption,
    RequireImages,
    ScanName,
    Suffix,
    Watch,
    Yes,
    checked,
    confirm,
    environment,
    open_database,
    open_publisher,
)
from producers.limits import Limits
from worker.errors import Reason
from worker.messages import Explain, Policy, Record

if TYPE_CHECKING:
    pass

app = typer.Typer()


@app.command()
def scan(
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="s3://bucket/prefix (or several), an S3 Inventory's manifest.json, a folder, a manifest "
            "(.jsonl, .csv, .txt, .parquet), or - for standard input.",
        ),
    ],
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    token: Annotated[
        str | None,
        typer.Option(help="Names one scan: the first command with it starts the scan, a later one continues it."),
    ] = None,
    explain: ExplainOption = Explain.FLAGGED,
    fake_from: FakeFrom = None,
    real_to: RealTo = None,
    max_tokens: MaxTokens = None,
    also: Also = None,
    suffix: Suffix = None,
    min_bytes: MinBytes = None,
    max_bytes: MaxBytes = None,
    rejudge: Annotated[bool, typer.Option("--rejudge", help="Reuse no verdict from before this scan.")] = False,
    record: RecordOption = Record.ALL,
    max_flagged_share: MaxFlaggedShare = Limits.max_flagged_share,
    max_failed_share: MaxFailedShare = Limits.max_failed_share,
    require_images: RequireImages = False,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Publish every image of SOURCE that is not known yet, and print the scan's id."""
    from producers import scans, sources
    from producers.listing import Rules
    from producers.reporting.progress import Warnings

    policy = checked(Policy, explain=explain, fake_from=fake_from, real_to=real_to, max_tokens=max_tokens,
                     also=also or ())  # fmt: skip
    rules = checked(Rules, suffixes=tuple(suffix or ()), min_bytes=min_bytes, max_bytes=max_bytes)
    names = checked(scans.Names, name=name, token=token)
    listing = scans.Listing(sources=tuple(map(sources.absolute, source)), rules=rules, require_images=require_images)
    settings = environment()
    database = open_database(settings)
    with open_publisher(settings, Warnings()) as publisher:
        sources.open_source(listing.sources, rules, lambda _line: None)  # a source that is not there makes no scan
        started = scans.start_scan(
            database, listing, name=names.name, token=names.token, policy=policy, rejudge=rejudge, record=record,
            limits=Limits(max_flagged_share, max_failed_share),
        )  # fmt: skip
        scans.check_same(started, listing, policy, rejudge=rejudge, record=record)
        go_on(settings, publisher, database, started.id, watch=watch, as_json=as_json)


@app.command()
def pause(scan: ScanName) -> None:
    """Stop publishing and judging the images of SCAN until it is resumed. What is being judged is finished."""
    from producers import scans
    from producers.scan_names import scan_named

    database = open_database(environment())
    scan_id = scan_named(database, scan)
    changed = scans.pause(database, scan_id, again=True)
    typer.echo(f"scan {scan_id} is paused{'' if changed else ' already'}; `fakesweep resume {scan_id}` continues it")


@app.command()
def resume(
    scan: ScanName,
    max_flagged_share: MaxFlaggedShare = None,
    max_failed_share: MaxFailedShare = None,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Continue SCAN, after a pause or after its producer was killed.

    A limit that paused it no longer applies, unless you give another one.
    """
    from producers import scans
    from producers.reporting.progress import Warnings
    from producers.scan_names import scan_named

    settings = environment()
    database = open_database(settings)
    scan_id = scan_named(database, scan)
    with open_publisher(settings, Warnings()) as publisher:
        scans.resume(database, scan_id, max_flagged_share=max_flagged_share, max_failed_share=max_failed_share)
        go_on(settings, publisher, database, scan_id, watch=watch, as_json=as_json)


@app.command()
def cancel(scan: ScanName, yes: Yes = False) -> None:
    """Cancel SCAN. Its findings stay. Its other images are never judged. This cannot be undone."""
    from producers import scans
    from producers.reporting import progress, results
    from producers.scan_names import scan_named
    from worker.tables import ScanStatus

    database = open_database(environment())
    scan_id = scan_named(database, scan)
    counts = results.progress(database, scan_id)
    if counts["status"] not in {ScanStatus.CANCELLED, ScanStatus.DONE}:
        left = counts["listed"] - progress.decided(counts)
        name = progress.printable(counts["name"])
        confirm(f"This cancels scan {scan_id} ({name}), and cannot be undone; {left} images have no outcome", yes=yes)
    changed = scans.cancel(database, scan_id, again=True)
    typer.echo(f"scan {scan_id} is cancelled{'' if changed else ' already'}")


@app.command()
def repair(scan: ScanName, watch: Watch = False, as_json: Json = False) -> None:
    """List the source of SCAN again and publish images without an outcome: new objects, and what was lost."""
    from producers import scans
    from producers.reporting.progress import Warnings
    from producers.scan_names import scan_named

    settings = environment()
    database = open_database(settings)
    scan_id = scan_named(database, scan)
    with open_publisher(settings, Warnings()) as publisher:
        scans.repair(database, scan_id)
        go_on(settings, publisher, database, scan_id, watch=watch, as_json=as_json)


@app.command()
def retry(
    scan: ScanName,
    reason: Annotated[list[Reason] | None, typer.Option(help="Only these reasons. Can be repeated.")] = None,
) -> None:
    """Judge failed images of SCAN again: those whose storage or engine failed, or those of --reason."""
    from producers import submissions
    from producers.reporting.progress import Warnings
    from producers.scan_names import scan_named

    settings = environment()
    database = open_database(settings)
    scan_id = scan_named(database, scan)
    with open_publisher(settings, Warnings()) as publisher:
        count = submissions.retry(publisher, database, scan_id, reason or submissions.RETRYABLE)
    typer.echo(f"{count} images published again")
