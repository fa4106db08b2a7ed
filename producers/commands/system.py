"""Commands that run the system's processes."""

from functools import partial
from typing import Annotated
from uuid import UUID

import typer

from producers.commands.options import environment, finite, metrics_on, open_broker, open_database, open_publisher
from producers.garbage import collect_seldom
from worker.errors import UsageError

app = typer.Typer()


@app.command()
def migrate(
    finish: Annotated[
        bool, typer.Option("--finish", help="After a roll-out: remove what only older releases needed.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Migrate although an older release, which would fail, is connected.")
    ] = False,
) -> None:
    """Bring the database's schema up to date. If several are started at once, one does it.

    Workers of the release before keep running, if the new schema says that it works with them (docs/upgrading.md).
    """
    from worker.database import actors, connect
    from worker.migrate import newest, upgrade
    from worker.roles import renew_grants

    database = connect(environment().database_url.get_secret_value(), actor=actors.command_line())
    waiting = partial(typer.echo, "another `fakesweep migrate` is at work: this one waits for it", err=True)
    reached = upgrade(database, finish=finish, force=force, on_wait=waiting)
    typer.echo(f"schema at revision {reached}")
    if reached > newest():
        typer.echo("it is newer than this release and works with it: nothing is changed")
        return
    if reached < newest():
        typer.echo(f"when no older release is at work, run `fakesweep migrate --finish`: it migrates to {newest()}")
    for step in renew_grants(database):
        typer.echo(step.what)


@app.command()
def roles(
    grant: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=LOGIN", help="Make LOGIN a member of ROLE, such as worker. Can be repeated."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="What the names of the roles begin with.")] = "fakesweep",
    dashboard_timeout_s: Annotated[
        float, typer.Option(min=0.001, callback=finite, help="Seconds after which a statement of a dashboard ends.")
    ] = 30,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Give the owner role tables that belong to another role.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the SQL.")] = False,
) -> None:
    """Make the database's roles, and give each the rights that it needs and no others. It can be run again.

    The roles are owner, worker, producer, reviewer, dashboard, web and webhooks.
    """
    from worker.grants import Role
    from worker.migrate import check_schema, newest
    from worker.roles import Wanted, make_roles

    try:
        pairs = [one.split("=", 1) for one in grant or []]
        members = [(Role(role), login) for role, login in pairs]
    except ValueError:
        raise UsageError(f"--grant takes ROLE=LOGIN, where ROLE is one of {', '.join(Role)}") from None
    wanted = Wanted(prefix, members, dashboard_timeout_s, take_over)
    database = open_database(environment())
    if check_schema(database) > newest():
        raise UsageError("the schema is newer than this release: run `fakesweep roles` of the newer release")
    for step in make_roles(database, wanted, dry_run=dry_run):
        if dry_run:
            typer.echo(f"-- {step.what}\n" + "".join(f"{statement};\n" for statement in step.statements))
        else:
            typer.echo(step.what)


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
    from worker.settings import Settings

    # A missing setting is reported before the slow imports. The worker itself names unknown ones.
    connect(Settings.from_environment().database_url.get_secret_value())
    from worker.__main__ import main as run_worker

    raise typer.Exit(run_worker())


@app.command()
def nightly() -> None:
    """Start the scans of the file FAKESWEEP_NIGHTLY when they are due, until SIGTERM."""
    from producers.nightly import schedule

    settings = environment()
    scans = schedule.load(settings.nightly)  # a fault in the file is reported before the slow imports
    from producers.nightly.nightly import serve
    from producers.nightly.overdue import overdue
    from worker import telemetry

    telemetry.configure_logging(settings)
    telemetry.init_sentry(settings)
    celery, database = open_broker(settings), open_database(settings, process="nightly")
    celery.conf.timezone = settings.timezone  # of the crontabs, also when Prometheus asks before the first tick
    late = partial(overdue, scans, celery, database)
    with metrics_on(settings.nightly_port, "FAKESWEEP_NIGHTLY_PORT", database, late, celery) as count:
        serve(scans, celery, database, settings.timezone, count)


@app.command(hidden=True)
def publish(
    scan_id: Annotated[UUID, typer.Argument(metavar="SCAN", help="The scan's id.")],
    counts: Annotated[bool, typer.Option("--counts", help="Say what is done, as JSON Lines.")] = False,
) -> None:
    """Continue the listing of SCAN, for `nightly`. Unlike `resume`, it leaves a paused scan paused."""
    from producers import publishing
    from producers.counting import count_nothing, tell_parent
    from producers.reporting import progress
    from worker.settings import Settings

    settings = Settings.from_environment()  # the process that started this one has named unknown variables
    database = open_database(settings, process="producer")
    collect_seldom()
    with open_publisher(settings, progress.Warnings()) as publisher:
        publishing.publish_scan(
            publisher, database, scan_id, warn=progress.Warnings(), count=tell_parent if counts else count_nothing
        )
