"""Waits for locks that workers need too: for a short time, and again a few times."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import text
from sqlmodel import Session
from tenacity import AttemptManager, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from worker.database.connection import Database, transaction
from worker.errors import DatabaseUnavailableError, LockedError

LOCK_TIMEOUT_S = 5.0
"""How long a lock is awaited. Workers that need the table wait behind us for no longer than this."""


@contextmanager
def short_transaction(database: Database, lock_s: float = LOCK_TIMEOUT_S) -> Iterator[Session]:
    """Opens a transaction that waits for a lock no longer than this. Raises LockedError."""
    try:
        with transaction(database) as session:
            session.execute(text(f"SET LOCAL lock_timeout = '{round(lock_s * 1000)}ms'"))
            yield session
    except DatabaseUnavailableError as error:
        if isinstance(getattr(error.__cause__, "orig", None), LockNotAvailable | DeadlockDetected):
            raise LockedError("another session holds a lock on its findings: run it again later") from error
        raise


def lock_attempts(count: int = 3) -> Iterator[AttemptManager]:
    """Tries again after a LockedError, with a random wait."""
    yield from Retrying(
        retry=retry_if_exception_type(LockedError),
        stop=stop_after_attempt(count),
        wait=wait_random_exponential(max=10),
        reraise=True,
    )
