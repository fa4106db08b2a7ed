"""Publishing a scan: list -> dedupe -> commit -> publish, chunk by chunk, from wherever the last producer stopped."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from producers.dedupe import Deduped, reuse_known, reuse_rule
from producers.listing import Page, Rules, Source, Warn, ahead, chunks
from producers.scans import Listing, find_scan
from producers.sources import open_source
from worker.case import ReuseRule
from worker.database import Database, counters, lifecycle, transaction
from worker.database.known import decided_uris
from worker.errors import DatabaseUnavailableError, SupersededError
from worker.messages import LIVE_QUEUE, SCAN_QUEUE, messages_of
from worker.tables import Repaired, Scan, ScanStatus, Unpublished

CHUNK = 5000
"""Images that are compared, committed and published together: five pages of S3's, 313 messages."""

RESUMPTIONS = 20
"""How often a database that went away is waited for in one run, before the command fails."""


class Publisher(Protocol):
    """What takes messages to the queue: producers.bulk.BulkPublisher, or a fake."""

    def publish(
        self, queue: str, messages: Sequence[dict[str, Any]], *, waiting: Callable[[], None] = lambda: None
    ) -> None:
        """Returns when the broker has all of them; calls `waiting` while there is no room. BrokerUnavailableError."""


@dataclass
class _Progress:
    """A scan as this producer knows it. `outbox` are the rows of `unpublished` that are published by now."""

    scan: Scan
    rule: ReuseRule | None
    outbox: list[int] = field(default_factory=list)

    @property
    def repairing(self) -> bool:
        return self.scan.status == ScanStatus.REPAIRING


@retry(
    retry=retry_if_exception_type(DatabaseUnavailableError),
    stop=stop_after_attempt(RESUMPTIONS),
    wait=wait_random_exponential(max=30),
    reraise=True,
)
def publish_scan(
    publisher: Publisher,
    database: Database,
    scan_id: UUID,
    *,
    chunk_size: int = CHUNK,
    opened: Callable[[Sequence[str], Rules, Warn], Source] = open_source,
    warn: Warn = lambda _line: None,
    listed: Callable[[int], None] = lambda _count: None,
    waiting: Callable[[], None] = lambda: None,
) -> ScanStatus:
    """Lists the scan's source from where its cursor stands and publishes what is not known; the status it leaves.

    What is listed is committed before it is published, and kept in `unpublished` until the next chunk is committed:
    a producer that is killed anywhere loses nothing and counts nothing twice. Of two producers on one scan, the one
    whose chunk comes second stops. While a scan is repaired, only what has no outcome yet is published. `listed` is
    told the count after each chunk, `waiting` is called while the queue is full.
    Raises SourceError, BrokerUnavailableError, DatabaseUnavailableError; run again, it goes on.
    """
    progress, left_behind = _take_up(database, scan_id)
    scan = progress.scan

    def look_up() -> None:
        _check(database, scan)
        waiting()

    def publish(messages: Sequence[dict[str, Any]]) -> None:
        publisher.publish(LIVE_QUEUE if scan.kind == "live" else SCAN_QUEUE, messages, waiting=look_up)

    try:
        publish(left_behind)
        if scan.status in {ScanStatus.LISTING, ScanStatus.REPAIRING}:
            listing = Listing.of(scan)
            for chunk in ahead(chunks(opened(listing.sources, listing.rules, warn).pages(scan.cursor), chunk_size)):
                publish(_commit(database, progress, chunk))
                listed(scan.listed)
        _end(database, progress)
    except SupersededError:
        warn(f"scan {scan_id}: another producer has gone on with it, or it was paused or cancelled")
    with transaction(database) as session:
        return ScanStatus(find_scan(session, scan_id).status)


def _check(database: Database, scan: Scan) -> None:
    """Ends a wait for room in the queue that nobody makes any more, the scan being paused or cancelled."""
    with transaction(database) as session:
        if find_scan(session, scan.id).status != scan.status:
            raise SupersededError


def _take_up(database: Database, scan_id: UUID) -> tuple[_Progress, list[dict[str, Any]]]:
    """The scan, and the messages that the producer before, or a pause, may have left unpublished."""
    with transaction(database) as session:
        scan = find_scan(session, scan_id)
        if scan.status not in lifecycle.ACTIVE:
            return _Progress(scan, None), []
        rule = reuse_rule(session, scan)
        rows = session.execute(select(Unpublished).where(col(Unpublished.scan_id) == scan_id)).scalars().all()
    messages = [message for row in rows for message in row.messages]
    return _Progress(scan, rule, [row.id for row in rows if row.id is not None]), messages


def _commit(database: Database, progress: _Progress, chunk: Page) -> list[dict[str, Any]]:
    """One transaction: findings of what is known, messages for the rest, and the cursor behind them."""
    scan = progress.scan
    with transaction(database) as session:
        decided = decided_uris(session, scan, chunk.refs) if progress.repairing else ()
        refs = [ref for ref in chunk.refs if ref.uri not in decided]
        deduped = reuse_known(session, scan, refs, progress.rule)
        messages = [job.payload() for job in messages_of(deduped.left, scan_id=scan.id)]
        _clear(session, progress)
        if progress.repairing and deduped.left:
            rows = [{"scan_id": scan.id, "uri": ref.uri} for ref in deduped.left]
            session.execute(insert(Repaired).on_conflict_do_nothing(), rows)
        if messages:
            row = Unpublished(scan_id=scan.id, messages=messages)
            session.add(row)
            session.flush()
            progress.outbox.append(row.id or 0)
        _advance(session, progress, chunk, deduped)
    return messages


def _advance(session: Session, progress: _Progress, chunk: Page, deduped: Deduped) -> None:
    """Moves the cursor and the counters. Last in its transaction: the scan's row is locked for the shortest time."""
    scan = progress.scan
    skipped_by = dict(Counter(scan.skipped_by or {}) + Counter({str(why): n for why, n in chunk.skipped.items()}))
    moved = {
        "cursor": chunk.cursor,
        "listed": scan.listed + (0 if progress.repairing else len(chunk.refs)),
        "skipped": sum(skipped_by.values()),
        "skipped_by": skipped_by,
    }
    raised = {name: getattr(Scan, name) + count for name, count in deduped.counters.items()}
    if deduped.counters and progress.rule is not None:
        raised["detector_ids"] = counters.with_detector(progress.rule.detector_id)
    _update(session, progress, moved | raised)
    counters.pause_at_limits(session, scan.id)
    for name, value in moved.items():
        setattr(scan, name, value)


def _update(session: Session, progress: _Progress, values: dict[str, Any]) -> None:
    """Changes the row when it is as this producer left it, and nobody has stopped the scan."""
    scan = progress.scan
    mine = (
        col(Scan.id) == scan.id,
        col(Scan.status) == scan.status,
        col(Scan.cursor).is_not_distinct_from(scan.cursor),
    )
    if session.execute(update(Scan).where(*mine).values(values).returning(col(Scan.id))).scalar() is None:
        raise SupersededError


def _end(database: Database, progress: _Progress) -> None:
    """Everything is published: `unpublished` is cleared, and a listing is at its end."""
    scan = progress.scan
    with transaction(database) as session:
        _clear(session, progress)
        if scan.status not in {ScanStatus.LISTING, ScanStatus.REPAIRING}:
            return
        if progress.repairing:
            counters.settle_repaired(session, scan.id, scan.partition)
    with transaction(database) as session:
        ended: dict[str, Any] = {"status": ScanStatus.RUNNING}
        if progress.repairing:
            # Locked, so that no outcome is committed between the two counts.
            session.execute(select(col(Scan.id)).where(col(Scan.id) == scan.id).with_for_update())
            to_come = counters.settle_repaired(session, scan.id, scan.partition)
            ended["listed"] = Scan.judged + Scan.reused + Scan.failed + to_come
        _update(session, progress, ended)
        counters.finish_if_full(session, scan.id)


def _clear(session: Session, progress: _Progress) -> None:
    if progress.outbox:
        session.execute(delete(Unpublished).where(col(Unpublished.id).in_(progress.outbox)))
        progress.outbox.clear()
