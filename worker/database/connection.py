"""Connects to Postgres and opens transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy import Engine as Database
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlmodel import Session

from worker.errors import ConfigurationError, DatabaseUnavailableError

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Database", "autocommit", "connect", "transaction"]


def connect(url: str, *, pool_size: int = 8) -> Database:
    """The database at a Postgres URL of any spelling; nothing is connected yet.

    It opens `pool_size` connections at most. Statements are prepared, except through a pooler such as PgBouncer, which
    may give each transaction another connection to Postgres. `?prepare_threshold=` in the URL decides it: statements
    are prepared after so many executions, and with 0 never.

    Raises ConfigurationError when the URL is missing or no Postgres URL.
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
    database = create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=30,
        connect_args={
            "connect_timeout": 5,
            "application_name": "fakesweep",
            "client_encoding": "utf8",
            # A server that vanishes without a word is noticed within a minute or so, not after the system's two hours.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
            **preparing,
        },
    )
    if not preparing:
        event.listen(database, "connect", _prepare_nothing_through_a_pooler)
    return database


def _preparing(url: URL) -> tuple[URL, dict[str, Any]]:
    """The URL without `prepare_threshold`, and psycopg's argument for it; none where the URL does not say."""
    given = url.query.get("prepare_threshold")
    if given is None:
        return url, {}
    if not (isinstance(given, str) and given.isdecimal()):
        raise ConfigurationError("DATABASE_URL: prepare_threshold must be a number; 0 prepares no statement")
    return url.difference_update_query(["prepare_threshold"]), {"prepare_threshold": int(given) or None}


def _prepare_nothing_through_a_pooler(connection: "Connection[Any]", _record: object) -> None:
    """A statement that was prepared in one transaction is not there in the next, when that one runs elsewhere.

    A pooler makes up the process id that it names at the start of a connection: it is not the one of the process of
    Postgres that answers.
    """
    (answering,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (None,)
    connection.rollback()
    if answering != connection.info.backend_pid:
        connection.prepare_threshold = None


@contextmanager
def transaction(database: Database) -> Iterator[Session]:
    """Gives a session that commits at the end.

    Raises DatabaseUnavailableError when the database cannot be reached or the connection is lost.
    """
    with _unavailable(), Session(database, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def autocommit(database: Database) -> Iterator[Session]:
    """Gives a session in which every statement is a transaction of its own. Raises like `transaction`.

    Postgres releases the locks of such a statement when it has finished it. Nobody waits until this process continues.
    """
    own = database.execution_options(isolation_level="AUTOCOMMIT")
    with _unavailable(), Session(own, expire_on_commit=False) as session:
        yield session


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    # InternalError and InterfaceError too: a demoted primary (read-only), a session that was closed.
    except (OperationalError, InternalError, InterfaceError, PoolTimeoutError) as error:
        raise DatabaseUnavailableError(_first_line(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailableError(_first_line(error)) from error
        raise


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
