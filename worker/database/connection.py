"""Connects to Postgres and opens transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy import Connection as Transacted
from sqlalchemy import Engine as Database
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlmodel import Session

from worker.errors import ConfigurationError, DatabaseUnavailableError
from worker.revisions import newest

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Database", "Patience", "acting", "autocommit", "connect", "transaction"]


@dataclass(frozen=True)
class Patience:
    """How long a process waits for its database, in seconds, before a call raises DatabaseUnavailableError."""

    pool_s: float = 30
    """How long it waits for a free connection of its pool."""
    lock_s: float | None = None
    """How long a statement waits for each lock. None: as long as the server allows."""
    statement_s: float | None = None
    """How long each statement may run, including the time that it waits for locks."""
    compiling: bool = True
    """Whether Postgres may compile query plans (its setting `jit`). Compiling takes 0.3 s, which pays only for long
    queries.
    """


def connect(url: str, *, pool_size: int = 8, patience: Patience | None = None, actor: str | None = None) -> Database:
    """Returns the database at a Postgres URL, such as postgresql:// or postgresql+psycopg://. It does not connect yet.

    The database opens at most `pool_size` connections. Statements are prepared, but not through a pooler such as
    PgBouncer, which may run each transaction on another connection to Postgres. `?prepare_threshold=N` in the URL
    overrides this: a statement is prepared after N executions, and never if N is 0. `patience` says how long
    calls wait. `actor` is who changes something, for the table `events`: see worker.database.actors.

    Raises ConfigurationError when the URL is missing or is not a Postgres URL.
    """
    if not url:
        raise ConfigurationError("DATABASE_URL is not set: give postgresql://user:password@host/database")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError("DATABASE_URL is not a URL: give postgresql://user:password@host/database") from None
    if parsed.drivername.partition("+")[0] not in {"postgresql", "postgres"}:
        raise ConfigurationError(f"DATABASE_URL names {parsed.drivername}; only postgresql:// is supported")
    parsed, preparing = _preparing(parsed)
    patience = patience or Patience()
    database = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=patience.pool_s,
        connect_args={
            "connect_timeout": 5,
            "application_name": f"fakesweep {newest()}",  # which release is at work: worker/at_work.py
            "client_encoding": "utf8",
            # If a server vanishes without closing its connections, we notice after about a minute. With the system's
            # defaults it would be two hours.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
            **preparing,
        },
    )
    if not preparing:
        event.listen(database, "connect", _prepare_nothing_through_a_pooler)
    event.listen(database, "begin", partial(_begin, _limits(patience)))
    return database if actor is None else acting(database, actor)


def acting(database: Database, actor: str) -> Database:
    """Returns the same database for another actor. Both use the same connections.

    Statements in `autocommit` do not say who acts: no event is written there.
    """
    return database.execution_options(actor=actor)


def _limits(patience: Patience) -> list[str]:
    """Returns SQL that sets the limits for one transaction only: through a pooler, other clients share the session."""
    given = {"lock_timeout": patience.lock_s, "statement_timeout": patience.statement_s}
    limits = [f"SET LOCAL {name} = {round(one * 1000)}" for name, one in given.items() if one is not None]
    return limits if patience.compiling else [*limits, "SET LOCAL jit = off"]


def _begin(limits: list[str], connection: Transacted) -> None:
    """Sets the limits and the actor of a transaction that begins."""
    # SQLAlchemy's connection would begin another transaction. This one is also there after `detach`.
    raw: Any = connection.connection.dbapi_connection
    actor = connection.get_execution_options().get("actor")
    settings = limits if actor is None else [*limits, f"SET LOCAL fakesweep.actor = {_quoted(actor)}"]
    if settings and not raw.autocommit:
        statement = "; ".join(settings)
        driver: Any = connection.dialect.loaded_dbapi
        try:
            raw.execute(statement, prepare=False)
        except driver.Error as error:  # SQLAlchemy makes its own errors only of those in its own statements
            raise DBAPIError.instance(statement, None, error, driver.Error, dialect=connection.dialect) from error


def _quoted(actor: str) -> str:
    """A literal of SQL. The name of a machine or of a token may hold anything."""
    from psycopg.sql import quote  # noqa: PLC0415 - psycopg is loaded by now: a transaction begins

    return quote("".join(char for char in actor if char.isprintable()))


def _preparing(url: URL) -> tuple[URL, dict[str, Any]]:
    """Returns the URL without `prepare_threshold`, and the argument for psycopg, if the URL has one."""
    given = url.query.get("prepare_threshold")
    if given is None:
        return url, {}
    if not (isinstance(given, str) and given.isdecimal()):
        raise ConfigurationError("DATABASE_URL: prepare_threshold must be a number; 0 prepares no statement")
    return url.difference_update_query(["prepare_threshold"]), {"prepare_threshold": int(given) or None}


def _prepare_nothing_through_a_pooler(connection: "Connection[Any]", _record: object) -> None:
    """Turns prepared statements off for a connection that goes through a pooler.

    A pooler may run the next transaction on another connection, which does not have the statements that were prepared
    before. We recognise a pooler by the process id that it names when a connection begins. A pooler makes up this id,
    so it is not that of the Postgres process that answers.
    """
    (answering,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (None,)
    connection.rollback()
    if answering != connection.info.backend_pid:
        connection.prepare_threshold = None


@contextmanager
def transaction(database: Database) -> Iterator[Session]:
    """Opens a session whose transaction is committed at the end, or rolled back if the body raises an error.

    Raises DatabaseUnavailableError when the database cannot be reached or the connection is lost.
    """
    with _unavailable(), Session(database, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def autocommit(database: Database) -> Iterator[Session]:
    """Opens a session in which every statement is a transaction of its own. Raises like `transaction`.

    Postgres releases the locks of a statement as soon as the statement has ended, so others do not wait for this
    process.
    """
    own = database.execution_options(isolation_level="AUTOCOMMIT")
    with _unavailable(), Session(own, expire_on_commit=False) as session:
        yield session


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    # InternalError: the primary was demoted and is read-only. InterfaceError: the session was closed.
    except (OperationalError, InternalError, InterfaceError, PoolTimeoutError) as error:
        raise DatabaseUnavailableError(_first_line(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailableError(_first_line(error)) from error
        raise


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
