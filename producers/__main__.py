"""The `fakesweep` command line. Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 the scan is paused."""

import os
import sys
from typing import Annotated, Any, NoReturn

import typer
import typer.exceptions

from producers.commands.lazy import group_of
from worker.errors import ConfigurationError, FakesweepError, UnknownSourceError, UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
LONGEST_LINE = 1000
"""Characters of an error. A longer one loses its middle: people may give a file's content in place of its name."""

_INSUFFICIENT_PRIVILEGE = "42501"
"""Postgres' code for a missing right: https://www.postgresql.org/docs/current/errcodes-appendix.html."""

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
    _open_what_is_closed()
    try:
        code = app(args=sys.argv[1:] or ["--help"], prog_name="fakesweep", standalone_mode=False)
        sys.stdout.flush()  # a full disk is noticed here, and not when the interpreter ends
    except typer.exceptions.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "fakesweep")
        _fail(f"{_worded(error)} (see {command} --help)", EXIT_USAGE)
    except (ConfigurationError, UsageError, UnknownSourceError) as error:
        _fail(error, EXIT_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", EXIT_INTERRUPTED)
    except FakesweepError as error:
        _fail(error, EXIT_FAILED)
    except OSError as error:
        _drop_what_cannot_be_written()
        _fail(": ".join(str(part) for part in (error.filename, error.strerror) if part) or error, EXIT_FAILED)
    except _database_errors() as error:
        _fail(_of_database(error), EXIT_FAILED)
    except Exception as error:
        if not _is_interrupted(error):
            raise
        _fail("interrupted", EXIT_INTERRUPTED)
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


def _of_database(error: Exception) -> str:
    """What Postgres says, without the statement and its values, and the remedy if the login lacks a right."""
    cause = getattr(error, "orig", None) or error
    if getattr(cause, "sqlstate", None) != _INSUFFICIENT_PRIVILEGE:
        return str(cause)
    return f"{cause}. Use a login whose role may do this in DATABASE_URL: `fakesweep roles` and docs/roles.md"


def _open_what_is_closed() -> None:
    """Sends what is printed on a closed stdout or stderr to nobody.

    Otherwise, Python prints on stdout what belongs on stderr, and a connection could get the number of the closed file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if number:  # a closed stdin stays None: `scan -` and questions say so
                setattr(sys, name, open(nowhere, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _drop_what_cannot_be_written() -> None:
    """Empties the buffer of stdout. The interpreter would try to write it again, and end with code 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_interrupted(error: BaseException | None) -> bool:
    """Says whether Ctrl-C is behind an error: Python makes a RuntimeError of it while it imports a class."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _fail(error: Exception | str, code: int) -> NoReturn:
    line = " ".join(str(error).split())
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 2 :]}"
    print(f"fakesweep: {line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
