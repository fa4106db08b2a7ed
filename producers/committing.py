"""Commits a scan's listing chunk by chunk: each commit has findings, messages and the new cursor."""

from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from producers.dedupe import Deduped, fill_reuse_rule, reuse_unchanged
from producers.listing import Page
from producers.nothing_listed import refusal
from producers.scans import find_scan
from worker.case import ReuseRule
from worker.database import Database, counters, lifecycle, transaction
from worker.database.known import decided_uris
from worker.errors import SupersededError
from worker.messages import messages_of
from worker.tables import Repaired, Scan, ScanStatus, Unpublished

TOGETHER = 2
"""How many chunks Postgres compares at the same time while all their images are known."""

LOCK_TIMEOUT_S = 3
"""How long a chunk waits for a lock of another producer when several chunks are compared at the same time. After that,
the database counts as unavailable, and the listing continues from the cursor.
"""


@dataclass
class TakenUp:
    """A scan as this producer knows it.

    `outbox`: ids of the rows of `unpublished` that the next commit deletes, because their messages have been published
    by then. `quiet`: everything in the last commit was known.
    """

    scan: Scan
    rule: ReuseRule | None
    outbox: list[int] = field(default_factory=list)
    quiet: bool = False

    @property
    def repairing(self) -> bool:
        return self.scan.status == ScanStatus.REPAIRING


def check_active(database: Database, scan: Scan) -> None:
    """Raises SupersededError if the scan's status has changed since this producer read it: then nobody will make room
    in the queue.
    """
    with transaction(database) as session:
        if find_scan(session, scan.id).status != scan.status:
            raise SupersededError


def take_up(database: Database, scan_id: UUID) -> tuple[TakenUp, list[dict[str, Any]]]:
    """Reads the scan and the messages that may be unpublished, and fills in its thresholds. Raises NoSuchScanError."""
    with transaction(database) as session:
        scan = find_scan(session, scan_id)
        if scan.status not in lifecycle.ACTIVE:
            return TakenUp(scan, None), []
        rule = fill_reuse_rule(session, scan)
        rows = session.execute(select(Unpublished).where(col(Unpublished.scan_id) == scan_id)).scalars().all()
    messages = [message for row in rows for message in row.messages]
    return TakenUp(scan, rule, [row.id for row in rows if row.id is not None]), messages


@dataclass(frozen=True)
class Committed:
    """What is left to publish of a chunk, and its row in `unpublished`.

    `listed` is how many images of the scan are listed so far. `images` counts those of this chunk, and `known` those
    among them that need no message.
    """

    messages: list[dict[str, Any]]
    outbox_id: int | None
    listed: int
    images: int
    known: int


def commit(database: Database, taken: TakenUp, chunks: Iterable[Page]) -> Generator[Committed]:
    """Commits, for each chunk, findings of unchanged images, messages for the others, and the new cursor.

    Ask for the next one when the messages are published: a later commit deletes them from `unpublished`. When reading
    the chunks fails, those that were read before the error come first.

    Each chunk has a transaction of its own. While nothing is new, Postgres works on two chunks side by side. They are
    committed in their order: when one fails, the one after it is rolled back.

    Raises SupersededError when another producer has continued the scan, or somebody has stopped it.
    """
    running: deque[Future[Committed]] = deque()
    with ThreadPoolExecutor(TOGETHER, thread_name_prefix="committing") as threads:
        try:
            for chunk in chunks:
                if taken.quiet:
                    before = running[-1] if running else None
                    given = (database, taken, chunk, before)
                    running.append(threads.submit(_commit, *given, lock_timeout_s=LOCK_TIMEOUT_S))
                else:
                    # Something is new, so one chunk at a time: a published chunk may wait for room for hours. It is
                    # committed in this thread, so that Ctrl-C can interrupt a statement that waits for a lock.
                    yield from _handed_over(taken, _commit(database, taken, chunk, None))
                while running and (len(running) == TOGETHER or not taken.quiet):
                    yield from _handed_over(taken, running.popleft().result())
        except Exception:
            # The source could not be read. If a commit failed, the commit after it raises the same error here.
            yield from _rest(taken, running)
            raise
        yield from _rest(taken, running)


def _rest(taken: TakenUp, running: "deque[Future[Committed]]") -> Iterator[Committed]:
    while running:
        yield from _handed_over(taken, running.popleft().result())


def _handed_over(taken: TakenUp, committed: Committed) -> Iterator[Committed]:
    taken.quiet = not committed.messages and not taken.repairing
    yield committed
    if committed.outbox_id is not None:
        taken.outbox.append(committed.outbox_id)


def _commit(
    database: Database,
    taken: TakenUp,
    chunk: Page,
    before: "Future[Committed] | None",
    *,
    lock_timeout_s: int | None = None,
) -> Committed:
    scan = taken.scan
    with transaction(database) as session:
        if lock_timeout_s:
            # Postgres cannot see a deadlock in which one of our transactions waits for another one here, in this
            # process.
            session.execute(text(f"SET LOCAL lock_timeout = '{lock_timeout_s}s'"))
        refs = chunk.refs
        if taken.repairing:
            decided = decided_uris(session, scan, refs)
            refs = [ref for ref in refs if ref.uri not in decided]
        deduped = reuse_unchanged(session, scan, refs, taken.rule)
        messages = [job.payload() for job in messages_of(deduped.left, scan_id=scan.id)]
        if before is not None:
            before.result()
        _clear(session, taken)
        if taken.repairing and deduped.left:
            rows = [{"scan_id": scan.id, "uri": ref.uri} for ref in deduped.left]
            session.execute(insert(Repaired).on_conflict_do_nothing(), rows)
        row = Unpublished(scan_id=scan.id, messages=messages) if messages else None
        if row is not None:
            session.add(row)
            session.flush()
        _advance(session, taken, chunk, deduped)
        listed = scan.listed  # before the next chunk raises it
    return Committed(messages, row.id if row else None, listed, len(chunk.refs), len(refs) - len(deduped.left))


def _advance(session: Session, taken: TakenUp, chunk: Page, deduped: Deduped) -> None:
    """Moves the cursor and the counters. This is the last statement of its transaction, so that the scan's row is
    locked only briefly.
    """
    scan = taken.scan
    skipped_by = dict(Counter(scan.skipped_by or {}) + Counter({str(why): n for why, n in chunk.skipped.items()}))
    moved = {
        "cursor": chunk.cursor,
        "listed": scan.listed + (0 if taken.repairing else len(chunk.refs)),
        "skipped": sum(skipped_by.values()),
        "skipped_by": skipped_by,
    }
    raised = {name: getattr(Scan, name) + count for name, count in deduped.counters.items()}
    if deduped.counters and taken.rule is not None:
        raised["detector_ids"] = counters.with_detector(taken.rule.detector_id)
    _update(session, taken, moved | raised)
    counters.pause_at_limits(session, scan.id)
    for name, value in moved.items():
        setattr(scan, name, value)


def _update(session: Session, taken: TakenUp, values: dict[str, Any]) -> None:
    """Changes the row if it is still as this producer left it and nobody has stopped the scan."""
    scan = taken.scan
    mine = (
        col(Scan.id) == scan.id,
        col(Scan.status) == scan.status,
        col(Scan.cursor).is_not_distinct_from(scan.cursor),
    )
    if session.execute(update(Scan).where(*mine).values(values).returning(col(Scan.id))).scalar() is None:
        raise SupersededError


def end_listing(database: Database, taken: TakenUp) -> None:
    """Empties `unpublished` and sets the scan to running, when everything is published. Raises the same errors as
    `commit`.

    A scan with `require_images` is cancelled if it has listed no image: see producers.nothing_listed.
    """
    scan = taken.scan
    with transaction(database) as session:
        _clear(session, taken)
        if scan.status not in {ScanStatus.LISTING, ScanStatus.REPAIRING}:
            return
        if taken.repairing:
            counters.settle_repaired(session, scan.id, scan.partition)
    with transaction(database) as session:
        ended: dict[str, Any] = {"status": ScanStatus.RUNNING}
        if why := refusal(scan):
            ended = {"status": ScanStatus.CANCELLED, "note": why, "finished_at": datetime.now(UTC)}
        if taken.repairing:
            # Locked, so that no outcome is committed between the two counts.
            session.execute(select(col(Scan.id)).where(col(Scan.id) == scan.id).with_for_update())
            to_come = counters.settle_repaired(session, scan.id, scan.partition)
            ended["listed"] = Scan.judged + Scan.reused + Scan.unchanged + Scan.failed + to_come
        _update(session, taken, ended)
        counters.finish_if_full(session, scan.id)


def _clear(session: Session, taken: TakenUp) -> None:
    if published := list(taken.outbox):  # it may grow in the meantime
        session.execute(delete(Unpublished).where(col(Unpublished.id).in_(published)))
        del taken.outbox[: len(published)]
