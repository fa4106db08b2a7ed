"""The `fakesweep` command line. Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 the scan is paused."""

import sys
from typing import NoReturn

import typer
import typer.exceptions

from producers.commands.lazy import group_of
from worker.errors import ConfigurationError, FakesweepError, UnknownSourceError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

app = group_of(
    typer.Typer(
        name="fakesweep",
        help="Sweeps image archives for AI-generated and deepfaked images. It flags; people decide.",
        add_completion=False,
        pretty_exceptions_enable=False,
    )
)


def main() -> NoReturn:
    """Runs the command line. Every error of ours is one line on stderr."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except typer.exceptions.TyperException as error:
        said = error.format_message() if hasattr(error, "format_message") else str(error)
        _fail(f"{said} (see fakesweep --help)", EXIT_USAGE)
    except (ConfigurationError, UsageError, UnknownSourceError) as error:
        _fail(error, EXIT_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", EXIT_INTERRUPTED)
    except (FakesweepError, OSError) as error:
        _fail(error, EXIT_FAILED)
    except _database_errors() as error:
        _fail(error, EXIT_FAILED)
    sys.exit(code if isinstance(code, int) else 0)


def _database_errors() -> tuple[type[Exception], ...]:
    """SQLAlchemy's errors, when the command has imported SQLAlchemy: help comes without it."""
    imported = sys.modules.get("sqlalchemy.exc")
    return (imported.SQLAlchemyError,) if imported else ()


def _fail(error: Exception | str, code: int) -> NoReturn:
    print(f"fakesweep: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
