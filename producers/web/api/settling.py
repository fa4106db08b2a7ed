"""Finds out which rows of an append-only table are complete: no row with a lower id can appear any more."""

import time

from sqlalchemy import text

from worker.database import Database, transaction
from worker.errors import LockedError

PATIENCE_S = 5.0
POLL_S = 0.02

_NEWEST = text("SELECT coalesce(max(id), 0) FROM reviews")
_WRITING = text(
    "SELECT virtualtransaction FROM pg_locks WHERE relation = CAST('reviews' AS regclass) AND granted "
    "AND mode = 'RowExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def settled_reviews(database: Database, patience_s: float = PATIENCE_S) -> int:
    """Returns the highest id up to which all reviews are visible, so that a program that asks for later ones misses
    none.

    A review gets its id before its commit, so it may appear after a review with a higher id. But its transaction locks
    the table before it gets the id. So this function reads the newest id and then waits for all transactions that hold
    such a lock.

    Raises LockedError if one of them takes longer than `patience_s`.
    """
    until = time.monotonic() + patience_s
    # Each statement sees everything that was committed before it.
    with transaction(database) as session:
        newest: int = session.execute(_NEWEST).scalar_one()
        writing = set(session.execute(_WRITING).scalars())
    while writing:
        if time.monotonic() >= until:
            raise LockedError("a transaction has been writing reviews for seconds")
        time.sleep(POLL_S)
        with transaction(database) as session:
            writing &= set(session.execute(_WRITING).scalars())
    return newest
