"""Builds an index on `findings`, or on another table, while others write into it.

Postgres has no CREATE INDEX CONCURRENTLY for a partitioned table. So a revision that calls this does nothing else:

    def upgrade() -> None:
        create_index("ix_findings_reason", "(reason, decided_at) WHERE outcome = 'failed'")

empty index of the table -> for each partition: build its index CONCURRENTLY -> attach it -> the index is valid

Each step is a transaction of its own. After a crash, the next run continues where this one stopped.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from alembic import op
from psycopg.errors import DeadlockDetected, LockNotAvailable, ObjectNotInPrerequisiteState, UndefinedTable
from tenacity import retry, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random

LOCK_TIMEOUT_MS = 500
"""How long a statement waits for its lock before it is tried again. While it waits, writers wait behind it."""
_GIVE_UP_S = 600
_ASK_AGAIN_S = 0.2

# A partition that is created from now on gets the index when it is attached.
_WITHOUT = """
SELECT part.oid, part.oid::regclass::text
FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid
WHERE inhparent = 'findings'::regclass AND NOT inhdetachpending
  AND NOT EXISTS (SELECT FROM pg_inherits attached JOIN pg_index ON indexrelid = attached.inhrelid
                  WHERE attached.inhparent = to_regclass(%s) AND indrelid = part.oid)
ORDER BY part.oid
"""
# Not in pg_stat_progress_create_index, where the statement disappears just before its transaction ends.
_BUILDING = """
SELECT pid AS building FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND query ~ %s
"""
_ATTACHED = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(%s) LIMIT 1"
_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"


def create_index(name: str, definition: str) -> None:
    """Creates an index on `findings`. `definition` is SQL: the columns in brackets, then WHERE, if needed.

    It waits for transactions that began earlier and hold a snapshot, such as those of a long query. Nobody has to wait
    for it during this time. While it runs, findings should not be dropped: see docs/upgrading.md.

    Raises psycopg.Error, also when it cannot get a lock for ten minutes.
    """
    with op.get_context().autocommit_block():
        connection: psycopg.Connection[Any] = op.get_bind().connection.driver_connection  # type: ignore[assignment]
        with _without_limits(connection):
            while not _is_valid(connection, name):
                _index_table(connection, name, definition)
                for oid, partition in _without(connection, name):
                    try:
                        _index_partition(connection, partition, f"{name[:50]}_{oid}", name, definition)
                    except UndefinedTable:
                        continue  # the partition was dropped
                    except ObjectNotInPrerequisiteState:
                        if (oid, partition) in _without(connection, name):
                            raise
                        continue  # it was detached


def create_index_on(table: str, name: str, definition: str) -> None:
    """As `create_index`, for a table without partitions. An index of this name that is not valid is built again."""
    with op.get_context().autocommit_block():
        connection: psycopg.Connection[Any] = op.get_bind().connection.driver_connection  # type: ignore[assignment]
        with _without_limits(connection):
            _build(connection, table, name, definition)


def drop_index_on(name: str) -> None:
    """Drops an index of a table without partitions while others write into it. It may be missing already."""
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


@contextmanager
def _without_limits(connection: "psycopg.Connection[Any]") -> Iterator[None]:
    """Takes away the limits that the login or the database may set: a step may take longer than they allow."""
    _run(connection, "SET statement_timeout = 0; SET lock_timeout = 0")
    try:
        yield
    finally:
        with suppress(psycopg.OperationalError):  # the connection is lost
            _run(connection, "RESET statement_timeout; RESET lock_timeout")


def _index_table(connection: "psycopg.Connection[Any]", name: str, definition: str) -> None:
    if _exists(connection, name) and not _without(connection, name):
        # Invalid, and each partition has it: the last one without it was dropped. Postgres checks again when one is
        # attached. Newer releases of Postgres also check if it is attached already. In other releases, all indexes are
        # built again.
        for (attached,) in connection.execute(_ATTACHED, [name]).fetchall():
            _quickly(connection, f"ALTER INDEX {name} ATTACH PARTITION {attached}")
        if not _is_valid(connection, name):
            _quickly(connection, f"DROP INDEX {name}")
    if not _exists(connection, name):
        _quickly(connection, f"CREATE INDEX {name} ON ONLY findings {definition}")


# While a partition is being dropped, Postgres may choose the index of this partition to end a deadlock.
@retry(retry=retry_if_exception_type(DeadlockDetected), stop=stop_after_attempt(10), reraise=True)
def _index_partition(
    connection: "psycopg.Connection[Any]", partition: str, own: str, name: str, definition: str
) -> None:
    _build(connection, partition, own, definition)
    _quickly(connection, f"ALTER INDEX {name} ATTACH PARTITION {own}")


def _build(connection: "psycopg.Connection[Any]", table: str, own: str, definition: str) -> None:
    # When a migration is killed, Postgres continues to build its index. A statement of ours that waits for the lock of
    # that build would hold a snapshot, and the build waits for this snapshot. So we only ask.
    while connection.execute(_BUILDING, [f"^(CREATE|DROP) INDEX CONCURRENTLY (IF EXISTS )?{own}( |$)"]).fetchone():
        time.sleep(_ASK_AGAIN_S)
    if _exists(connection, own) and not _is_valid(connection, own):
        _run(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {own}")  # or it was dropped with its partition
    if not _exists(connection, own):
        _run(connection, f"CREATE INDEX CONCURRENTLY {own} ON {table} {definition}")


@retry(
    retry=retry_if_exception_type((LockNotAvailable, DeadlockDetected)),
    wait=wait_random(0.2, 1),
    stop=stop_after_delay(_GIVE_UP_S),
    reraise=True,
)
def _quickly(connection: "psycopg.Connection[Any]", statement: str) -> None:
    """Runs a statement that waits for writers and makes others wait, in one transaction with a limit on the wait."""
    _run(connection, f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; {statement}")


def _run(connection: "psycopg.Connection[Any]", statements: str) -> None:
    connection.execute(statements, prepare=False)


def _without(connection: "psycopg.Connection[Any]", name: str) -> list[Any]:
    return connection.execute(_WITHOUT, [name]).fetchall()


def _exists(connection: "psycopg.Connection[Any]", name: str) -> bool:
    return connection.execute(_VALID, [name]).fetchone() is not None


def _is_valid(connection: "psycopg.Connection[Any]", name: str) -> bool:
    return connection.execute(_VALID, [name]).fetchone() == (True,)
