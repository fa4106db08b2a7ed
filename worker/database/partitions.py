"""The partitions of `findings`: one per scan, and one per month for submissions.

Functions in the database create and drop them (migration 0007). Only the owner of `findings` may attach a table to it,
and workers and producers need not be the owner.
"""

from datetime import UTC, datetime

from sqlalchemy import text
from sqlmodel import Session

TABLE_PREFIX = "findings_"
"""The beginning of the name of every partition's table."""


def live_partition(moment: datetime) -> str:
    """Returns the partition for submissions of this month, such as `live_2026_11`."""
    return f"live_{moment.astimezone(UTC):%Y_%m}"


def ensure_partition(session: Session, partition: str) -> None:
    """Creates the partition if it is missing. It is attached after creation, which locks readers for a shorter time."""
    session.execute(text("SELECT ensure_findings_partition(:partition)"), {"partition": partition})


def drop_partition_table(session: Session, partition: str) -> None:
    """Detaches the partition and drops its table. Its scans must have ended and have `dropped_at` set.

    Call this last in the transaction: until the commit, nobody else can read or write findings.
    """
    session.execute(text("SELECT drop_findings_partition(:partition)"), {"partition": partition})
