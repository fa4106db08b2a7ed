"""Commands that run the system's processes."""

from typing import Annotated

import typer

from worker import database
from worker.migrate import upgrade
from worker.settings import Settings

app = typer.Typer()


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
