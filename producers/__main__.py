"""The `fakesweep` command line. Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 the scan is paused."""

import sys
from typing import Annotated, Any, NoReturn

import typer
import typer.exceptions

from producers.commands.lazy import group_of
from worker.errors import ConfigurationError, FakesweepError, UnknownSourceError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

declared = typer.Typer(
    name="fakesweep",
    help="Sweeps image archives for AI-generated and deepfaked images. It flags; people decide.",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - other commands do without

        typer.echo(f"fakesweep {version('fakesweep')}")
        raise typer.Exit


@declared.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command line itself."""


app = group_of(declared)


def main() -> NoReturn:
    """Runs the command line. Every error of ours is one line on stderr."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], prog_name="fakesweep", standalone_mode=False)
    except typer.exceptions.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "fakesweep")
        _fail(f"{_worded(error)} (see {command} --help)", EXIT_USAGE)
    except (ConfigurationError, UsageError, UnknownSourceError) as error:
        _fail(error, EXIT_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", EXIT_INTERRUPTED)
    except (FakesweepError, OSError) as error:
        _fail(error, EXIT_FAILED)
    except _database_errors() as error:
        _fail(error, EXIT_FAILED)
    sys.exit(code if isinstance(code, int) else 0)


def _worded(error: typer.exceptions.TyperException) -> str:
    """What is wrong with an option or an argument. Where pydantic has found it, in our words."""
    cause: Any = error.__cause__
    if hasattr(error, "message") and hasattr(cause, "errors"):
        from worker.wording import first_fault  # noqa: PLC0415 - most command lines have no fault

        error.message = first_fault(cause)
    return error.format_message()


def _database_errors() -> tuple[type[Exception], ...]:
    """SQLAlchemy's errors, when the command has imported SQLAlchemy: help comes without it."""
    imported = sys.modules.get("sqlalchemy.exc")
    return (imported.SQLAlchemyError,) if imported else ()


def _fail(error: Exception | str, code: int) -> NoReturn:
    print(f"fakesweep: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
