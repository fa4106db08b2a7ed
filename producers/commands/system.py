"""Commands that run the system's processes."""

from functools import partial
from typing import Annotated

import typer

from producers.commands.options import ScanId, environment, metrics_on, open_broker, open_database, open_publisher
from producers.garbage import collect_seldom

app = typer.Typer()


@app.command()
def migrate() -> None:
    """Bring the database's schema up to date. Many may start at once; one does it."""
    from worker.database import connect
    from worker.migrate import upgrade

    url = environment().database_url.get_secret_value()
    typer.echo(f"schema at revision {upgrade(connect(url))}")


@app.command()
def worker(
    gpus: Annotated[
        str | None, typer.Option(metavar="all|0,1,…", help="A process for each GPU, started again when it dies.")
    ] = None,
) -> None:
    """Run a worker: take messages, judge their images, write findings."""
    if gpus is not None:
        from worker.replicas import main as run_replicas

        raise typer.Exit(run_replicas(gpus))
    from worker.database import connect

    connect(environment().database_url.get_secret_value())  # a missing setting is told before the slow imports
    from worker.__main__ import main as run_worker

    raise typer.Exit(run_worker())


@app.command()
def nightly() -> None:
    """Start the scans of the file FAKESWEEP_NIGHTLY when they are due, until SIGTERM."""
    from producers.nightly import schedule

    settings = environment()
    scans = schedule.load(settings.nightly)  # a fault in the file is told before the slow imports
    from producers.nightly.nightly import serve
    from producers.nightly.overdue import overdue
    from worker import telemetry

    telemetry.configure_logging(settings)
    telemetry.init_sentry(settings)
    celery, database = open_broker(settings), open_database(settings)
    celery.conf.timezone = settings.timezone  # of the crontabs, also when Prometheus asks before the first tick
    late = partial(overdue, scans, celery, database)
    with metrics_on(settings.nightly_port, "FAKESWEEP_NIGHTLY_PORT", database, late) as count:
        serve(scans, celery, database, settings.timezone, count)


@app.command(hidden=True)
def publish(
    scan_id: ScanId,
    counts: Annotated[bool, typer.Option("--counts", help="Say what is done, as JSON Lines.")] = False,
) -> None:
    """Go on with the listing of SCAN, as `nightly` has it done. Unlike `resume`, it leaves a paused scan paused."""
    from producers import publishing
    from producers.counting import count_nothing, tell_parent
    from producers.reporting import progress

    settings = environment()
    database = open_database(settings)
    collect_seldom()
    with open_publisher(settings, progress.Warnings()) as publisher:
        publishing.publish_scan(
            publisher, database, scan_id, warn=progress.Warnings(), count=tell_parent if counts else count_nothing
        )
