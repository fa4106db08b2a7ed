"""A connection that Postgres ends, at each moment of a transaction: the caller learns that the database is away."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, event, text

from worker.database import Database, Patience, autocommit, connect, transaction
from worker.errors import DatabaseUnavailableError

MOMENTS = ("connect", "checkout", "begin", "commit", "rollback")
LIMITS = Patience(lock_s=1, statement_s=1, compiling=False)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("actor", [None, "a worker"])
def test_a_transaction_whose_connection_is_ended(database_url: str, moment: str, actor: str | None) -> None:
    database = connect(database_url, patience=LIMITS, actor=actor)
    ended = ending(database, database_url, moment)
    with pytest.raises(DatabaseUnavailableError) as caught:
        one_transaction(database, fails=moment == "rollback")
    assert ended
    in_settings = "SET LOCAL" in str(getattr(caught.value.__cause__, "statement", ""))
    assert in_settings is (moment == "checkout" or (moment == "begin" and actor is not None))
    works(database)


@pytest.mark.parametrize("moment", ["connect", "checkout"])
def test_a_single_statement_whose_connection_is_ended(database_url: str, moment: str) -> None:
    database = connect(database_url, patience=LIMITS)
    ended = ending(database, database_url, moment)
    with pytest.raises(DatabaseUnavailableError), autocommit(database) as session:
        session.execute(text("SELECT 1"))
    assert ended
    works(database)


def one_transaction(database: Database, *, fails: bool) -> None:
    """Runs a transaction. It ends with an error of our own if it `fails`, and is then rolled back."""
    with transaction(database) as session:
        session.execute(text("SELECT 1"))
        if fails:
            raise _OwnError


class _OwnError(Exception):
    """An error that has nothing to do with the database."""


def ending(database: Database, url: str, moment: str) -> list[int]:
    """Ends the database's next connection at this moment. Returns whom it ended.

    `checkout` is after the pool has tried the connection, and before the transaction's settings.
    """
    ended: list[int] = []

    def end(process: int) -> None:
        if not ended:
            ended.append(process)
            with psycopg.connect(url, autocommit=True) as other:
                # It waits until the process has ended.
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [process])

    of_pool: Callable[..., None] = lambda connection, *_: end(connection.info.backend_pid)  # noqa: E731
    of_engine: Callable[[Any], None] = lambda one: end(one.connection.dbapi_connection.info.backend_pid)  # noqa: E731
    if moment in {"connect", "checkout"}:
        event.listen(database.pool, moment, of_pool, insert=True)
    else:
        event.listen(database, moment, of_engine)
    return ended


def works(database: Engine) -> None:
    """Asserts that the pool has a connection again."""
    with transaction(database) as session:
        assert session.execute(text("SELECT 1")).scalar() == 1
    database.dispose()
