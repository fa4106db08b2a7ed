"""Names the variables of the environment that begin with FAKESWEEP_ and that nobody reads."""

import os
from functools import cache

import typer


@cache  # once for each process, however often the settings are read
def warn_of_unknown_variables() -> None:
    """Prints one line on stderr, with the name that was probably meant."""
    from producers.web.settings import WebSettings
    from worker.settings import Settings
    from worker.variables import names_of, unknown_variables

    told = unknown_variables(os.environ, names_of(Settings) | names_of(WebSettings))
    if told:
        typer.echo(f"fakesweep: {told}", err=True)
