"""A scan's counters: each message raises them; its limits may pause the scan then, and its last image ends it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Update, and_, case, delete, func, not_, select, update
from sqlmodel import Session, col

from worker.database.figures import RATE_WINDOW_S
from worker.database.lifecycle import ACTIVE
from worker.tables import Finding, Repaired, Scan, ScanStatus, Unpublished

COUNTERS = ("judged", "reused", "failed", "fake", "uncertain", "real")
"""Columns of `scans`. The first three count outcomes, the others split those with a verdict."""

LIMITS_AFTER = 1000
"""Outcomes before a scan's limits are looked at: of the first ten images, five may well be fake."""


def raise_counters(session: Session, scan_id: UUID, raised: Mapping[str, int], detector_id: int) -> bool:
    """Adds to a scan's counters, and ends or pauses the scan where that is due.

    One statement but for the message that fills the scan. False when retention has dropped the scan's findings.
    """
    now = {name: getattr(Scan, name) + raised.get(name, 0) for name in COUNTERS}
    decided = _decided(now)
    full = (col(Scan.status) == ScanStatus.RUNNING) & (decided >= Scan.listed)
    age_s = func.extract("epoch", func.clock_timestamp() - func.coalesce(Scan.counted_at, func.now()))
    newly_decided = max(_decided(raised), 0)
    values = {
        **{name: now[name] for name in raised},
        "rate": Scan.rate * func.exp(-age_s / RATE_WINDOW_S) + newly_decided / RATE_WINDOW_S,
        "counted_at": func.clock_timestamp(),
        "detector_ids": with_detector(detector_id),
        # A message of an image that a repair did not find any more may come after the end.
        "listed": case((col(Scan.status) == ScanStatus.DONE, func.greatest(Scan.listed, decided)), else_=Scan.listed),
        **_paused(_over_limits(now) & not_(full), now),
    }
    mine = (col(Scan.id) == scan_id, col(Scan.dropped_at).is_(None))
    after = (col(Scan.status) == ScanStatus.RUNNING) & (_decided(_counters()) >= Scan.listed)
    filled = session.execute(_quietly(update(Scan).where(*mine).values(values)).returning(after)).scalar()
    if filled:
        finish_if_full(session, scan_id)
        pause_at_limits(session, scan_id)
    return filled is not None


def with_detector(detector_id: int) -> ColumnElement[list[int]]:
    """The new value of a scan's `detector_ids`: with this one."""
    there = col(Scan.detector_ids).contains([detector_id])
    return case((there, Scan.detector_ids), else_=func.array_append(Scan.detector_ids, detector_id))


def finish_if_full(session: Session, scan_id: UUID) -> None:
    """Marks a scan done when its listing is complete and every listed image has an outcome."""
    decided = _decided(_counters())
    running = (col(Scan.id) == scan_id, col(Scan.status) == ScanStatus.RUNNING, decided >= col(Scan.listed))
    done = {"status": ScanStatus.DONE, "finished_at": func.now(), "listed": decided}
    finished = session.execute(
        _quietly(update(Scan).where(*running).values(done)).returning(col(Scan.id), col(Scan.partition))
    ).one_or_none()
    if finished is None:
        return
    # What was deleted from the source before a repair is not listed any more, but its message may still be decided.
    if to_come := settle_repaired(session, scan_id, finished.partition):
        again = {"status": ScanStatus.RUNNING, "finished_at": None, "listed": decided + to_come}
        session.execute(_quietly(update(Scan).where(col(Scan.id) == scan_id).values(again)))
        return
    session.execute(delete(Unpublished).where(col(Unpublished.scan_id) == scan_id))


def settle_repaired(session: Session, scan_id: UUID, partition: str) -> int:
    """How many of the images that a repair published have no outcome yet; those that have are forgotten."""
    decided = (
        select(col(Finding.uri))
        .where(col(Finding.partition) == partition, col(Finding.scan_id) == scan_id)
        .where(col(Finding.uri) == col(Repaired.uri))
        .exists()
    )
    session.execute(delete(Repaired).where(col(Repaired.scan_id) == scan_id, decided))
    query = select(func.count()).select_from(Repaired).where(col(Repaired.scan_id) == scan_id)
    return int(session.execute(query).scalar_one())


def pause_at_limits(session: Session, scan_id: UUID) -> None:
    """The circuit breaker: pauses a scan that flags, or fails on, a larger share of its images than it may."""
    over = _over_limits(_counters())
    mine = (col(Scan.id) == scan_id, over)
    session.execute(_quietly(update(Scan).where(*mine).values(_paused(over, _counters()))))


def _counters() -> dict[str, Any]:
    return {name: getattr(Scan, name) for name in COUNTERS}


def _decided(counts: Mapping[str, Any]) -> Any:
    """How many images have an outcome; in SQL, or of plain numbers."""
    return sum(counts.get(name, 0) for name in ("judged", "reused", "failed"))


def _over_limits(counts: Mapping[str, Any]) -> ColumnElement[bool]:
    flagged, failed = _too_many(counts)
    enough = _decided(counts) >= LIMITS_AFTER
    return and_(col(Scan.status).in_(ACTIVE), enough, flagged | failed)


def _too_many(counts: Mapping[str, Any]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    with_verdict = counts["judged"] + counts["reused"]
    flagged = counts["fake"] > col(Scan.max_flagged_share) * with_verdict
    return flagged, counts["failed"] > col(Scan.max_failed_share) * _decided(counts)


def _paused(over: ColumnElement[bool], counts: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a scan that is paused where `over` is true."""
    flagged, _ = _too_many(counts)
    said = "%s of %s images {}; the limit is a share of %s"
    with_verdict = counts["judged"] + counts["reused"]
    note = case(
        (flagged, func.format(said.format("are flagged"), counts["fake"], with_verdict, Scan.max_flagged_share)),
        else_=func.format(said.format("failed"), counts["failed"], _decided(counts), Scan.max_failed_share),
    )
    return {
        "status": case((over, ScanStatus.PAUSED.value), else_=Scan.status),
        "paused_from": case((over, Scan.status), else_=Scan.paused_from),
        "note": case((over, note), else_=Scan.note),
    }


def _quietly(statement: Update) -> Update:
    """Without changing the rows that the session has loaded: nothing looks at those afterwards."""
    return statement.execution_options(synchronize_session=False)
