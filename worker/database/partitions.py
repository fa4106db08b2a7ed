"""The partitions of `findings`: one a scan, one a month for submissions."""

from datetime import UTC, datetime

from sqlalchemy import text
from sqlmodel import Session

TABLE_PREFIX = "findings_"
"""The beginning of the name of every partition's table."""

_PARTITION_LOCK = 0x46414B45
"""Advisory lock (ASCII "FAKE") under which partitions are made, so that two workers do not make one twice."""


def live_partition(moment: datetime) -> str:
    """The partition of a submission: one a month, `live_2026_11`."""
    return f"live_{moment.astimezone(UTC):%Y_%m}"


def ensure_partition(session: Session, partition: str) -> None:
    """Creates the partition if it is missing. It is attached after creation, which locks readers for a shorter time."""
    # Not to_regclass, which may go by what this session cached before it waited for the lock.
    there = text("SELECT 1 FROM pg_class WHERE relname = :name AND relnamespace = current_schema()::regnamespace")
    if session.execute(there, {"name": f"{TABLE_PREFIX}{partition}"}).scalar():
        return
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PARTITION_LOCK})
    if session.execute(there, {"name": f"{TABLE_PREFIX}{partition}"}).scalar():
        return
    name = f'"{TABLE_PREFIX}{partition}"'
    session.execute(text(f"CREATE TABLE {name} (LIKE findings INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"))
    session.execute(text(f"ALTER TABLE {name} ADD CHECK (partition = '{partition}')"))
    session.execute(text(f"ALTER TABLE findings ATTACH PARTITION {name} FOR VALUES IN ('{partition}')"))


def drop_partition_table(session: Session, partition: str) -> None:
    """Detaches the partition and drops its table.

    Call it last in the transaction: until the commit, nobody else can read or write findings.
    """
    session.execute(text(f'ALTER TABLE findings DETACH PARTITION "{TABLE_PREFIX}{partition}"'))
    session.execute(text(f'DROP TABLE "{TABLE_PREFIX}{partition}"'))
