"""Which rows of a table that only grows are complete: nothing with a lower id can appear any more."""

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
    """The highest id below which all reviews can be seen: who asks after it later misses none.

    Ids are taken before the commit, so that a review can appear after one with a higher id. But a transaction locks the
    table before it takes an id: so this waits for all that hold such a lock when the newest id has been read.
    Raises LockedError when one of them takes longer than `patience_s`.
    """
    until = time.monotonic() + patience_s
    # Each statement sees what was committed before it.
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
