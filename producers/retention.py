"""Drops the findings of scans that ended long ago. Scans, verdicts, objects and reviews stay."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import ColumnElement, delete, select, text
from sqlmodel import Session, col

from producers.scans import find_scan
from worker.database import Database, transaction
from worker.database.events import record
from worker.database.lifecycle import ENDED
from worker.database.locking import LOCK_TIMEOUT_S, lock_attempts, short_transaction
from worker.database.partitions import TABLE_PREFIX, drop_partition_table
from worker.errors import ScanStateError
from worker.tables import EventKind, Finding, MessageTry, Scan, Suspect, Unpublished

# A cancelled scan has no finished_at. The time of its last outcome, or else its start, is the best that is known.
_ENDED_AT = "coalesce(finished_at, counted_at, created_at)"

# Nobody learns that a submission is stuck (its message was dead-lettered, or a queue was purged), and one stuck
# submission would keep the findings of its whole month. So it counts as ended if it has not moved for as long as
# findings are kept.
_OVER = "(status = ANY(:ended) OR kind = 'live' AND coalesce(counted_at, created_at) < :before)"

# CASE, because OR may evaluate both sides, and the name of a scan's partition does not end in a month.
_OLD = f"""
SELECT scans.partition, max(kind) AS kind, min(scans.id::text) AS scan_id, min(name) AS name,
       count(*) FILTER (WHERE dropped_at IS NULL) AS scans,
       coalesce(sum(judged + reused + failed) FILTER (WHERE dropped_at IS NULL), 0)::bigint AS findings,
       max({_ENDED_AT}) AS ended_at,
       min(scans.id::text || ' is still ' || status) FILTER (WHERE NOT {_OVER}) AS held_by
FROM pg_inherits
JOIN pg_class ON pg_class.oid = inhrelid
JOIN scans ON relname = '{TABLE_PREFIX}' || scans.partition
WHERE inhparent = 'findings'::regclass
GROUP BY scans.partition
HAVING (max({_ENDED_AT}) < :before OR max(kind) = 'live' AND NOT bool_and({_OVER}))
   AND CASE WHEN max(kind) = 'live'
       THEN to_date(right(scans.partition, 7), 'YYYY_MM') + interval '1 month' <= :day ELSE true END
ORDER BY ended_at, scans.partition
"""  # noqa: S608 - a constant of this file

_MARK = f"""
UPDATE scans SET dropped_at = coalesce(dropped_at, now()) WHERE partition = :partition AND {_OVER}
"""  # noqa: S608 - a constant of this file

_AT_WORK = f"""
SELECT id FROM scans WHERE partition = :partition AND (NOT {_OVER} OR {_ENDED_AT} >= :before) LIMIT 1
"""  # noqa: S608 - a constant of this file


@dataclass(frozen=True)
class OldPartition:
    """A partition of `findings` in which nothing has happened recently: of one scan, or of a month of submissions.

    `findings` is the number of its rows, by the counters of its `scans`. `ended_at` is when the last of these scans
    ended or, if one has not ended, when that one last moved. `held_by` names that scan: because of it, the findings
    stay.
    """

    partition: str
    kind: str
    scan_id: str
    name: str
    scans: int
    findings: int
    ended_at: datetime
    held_by: str | None

    def __str__(self) -> str:
        if self.kind == "live":
            month = self.partition.removeprefix("live_").replace("_", "-")
            return f"{self.findings} findings of {self.scans} submissions of {month}"
        ended = f"{'last moved' if self.held_by else 'ended'} {self.ended_at:%Y-%m-%d}"
        return f"{self.findings} findings of scan {self.scan_id} ({self.name}), {ended}"


def droppable(database: Database, before: datetime) -> list[OldPartition]:
    """Returns the partitions whose scans all ended before this time, the oldest first. Submissions are dropped by whole
    months in UTC.
    """
    return [found for found in _old(database, before) if found.held_by is None]


def held_back(database: Database, before: datetime) -> list[OldPartition]:
    """Returns partitions that are as old but stay, because one of their scans is running or paused, the oldest
    first.
    """
    return [found for found in _old(database, before) if found.held_by is not None]


def _old(database: Database, before: datetime) -> list[OldPartition]:
    values = {"ended": _ended(), "before": before, "day": before.astimezone(UTC).replace(tzinfo=None)}
    with transaction(database) as session:
        return [OldPartition(**row) for row in session.execute(text(_OLD), values).mappings()]


def drop_partition(
    database: Database, partition: str, before: datetime, *, attempts: int = 3, lock_s: float = LOCK_TIMEOUT_S
) -> None:
    """Drops a partition in one transaction: after a crash, it is complete or gone.

    Raises ScanStateError if one of its scans has not ended before this time, and LockedError if no attempt gets the
    lock.
    """
    values = {"partition": partition, "ended": _ended(), "before": before}
    for attempt in lock_attempts(attempts):
        with attempt, short_transaction(database, lock_s) as session:
            session.execute(text(_MARK), values)  # locks the rows: from now on, nobody can repair these scans
            if scan_id := session.execute(text(_AT_WORK), values).scalar():
                raise ScanStateError(f"scan {scan_id} is at work again, or was at work recently")
            _forget(session, col(Scan.partition) == partition)
            record(session, EventKind.RETENTION, subject=partition, details={"before": before.isoformat()})
            drop_partition_table(session, partition)


def check_droppable(database: Database, scan_id: UUID) -> Scan:
    """The scan's row, when its findings can be dropped. Raises NoSuchScanError, ScanStateError."""
    with transaction(database) as session:
        scan = find_scan(session, scan_id)
    _check(scan)
    return scan


def _check(scan: Scan) -> None:
    if scan.status not in ENDED:
        raise ScanStateError(f"scan {scan.id} is {scan.status}: cancel it first, or let it end")
    if scan.dropped_at is not None:
        raise ScanStateError(f"scan {scan.id}: its findings were dropped at {scan.dropped_at:%Y-%m-%d %H:%M}")


def drop_scan(database: Database, scan_id: UUID, *, attempts: int = 3, lock_s: float = LOCK_TIMEOUT_S) -> Scan:
    """Drops the findings of one scan and returns its row. Findings of a submission are deleted from the partition that
    it shares.

    Raises NoSuchScanError, LockedError, and ScanStateError if the scan has not ended or was dropped before.
    """
    for attempt in lock_attempts(attempts):
        with attempt, short_transaction(database, lock_s) as session:
            find_scan(session, scan_id)
            scan = session.get_one(Scan, scan_id, with_for_update=True, populate_existing=True)
            _check(scan)
            scan.dropped_at = datetime.now(UTC)
            _forget(session, col(Scan.id) == scan_id)
            if scan.kind == "live":
                record(session, EventKind.RETENTION, scan_id=scan_id, subject=scan.partition)
                own = (col(Finding.partition) == scan.partition, col(Finding.scan_id) == scan_id)
                session.execute(delete(Finding).where(*own))
            else:
                session.flush()
                drop_partition_table(session, scan.partition)
    return scan


def forget_messages(database: Database, before: datetime) -> None:
    """Deletes the counts of messages that were in hand at a death of a worker before this time and never came back."""
    with transaction(database) as session:
        session.execute(delete(MessageTry).where(col(MessageTry.started_at) < before))


def _ended() -> list[str]:
    return [str(status) for status in ENDED]


def _forget(session: Session, which: ColumnElement[bool]) -> None:
    ids = select(col(Scan.id)).where(which)
    session.execute(delete(Suspect).where(col(Suspect.scan_id).in_(ids)))
    session.execute(delete(Unpublished).where(col(Unpublished.scan_id).in_(ids)))
