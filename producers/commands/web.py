"""The command for the review desk."""

import typer

from producers.commands.options import environment, needs_extra, open_database

app = typer.Typer()


@app.command()
def web() -> None:
    """Serve the review desk and the API until SIGTERM: pages where people decide about images.

    Settings come from the environment: FAKESWEEP_WEB_SECRET and others (docs/review-desk.md).
    """
    from producers.web.settings import WebSettings

    settings, own = environment(), WebSettings.from_environment()
    own.check()  # a missing setting is reported before the slow imports
    try:
        from producers.web.serve import CONNECTIONS, PATIENCE, serve
    except ImportError as error:
        raise needs_extra("web", error) from error
    raise typer.Exit(
        serve(settings, own, open_database(settings, pool_size=CONNECTIONS, patience=PATIENCE, process="web"))
    )
