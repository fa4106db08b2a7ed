"""A scan's life in its row: opened by the first message, paused by its limits, done when its last image is decided."""

from datetime import UTC, datetime
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from worker.database.figures import RATE_WINDOW_S
from worker.database.partitions import ensure_partition, live_partition
from worker.errors import InvalidMessageError
from worker.messages import Explain, JudgeImages, Policy
from worker.tables import Finding, Repaired, Scan, ScanStatus, Unpublished

log = structlog.get_logger(__name__)

ACTIVE = (ScanStatus.LISTING, ScanStatus.REPAIRING, ScanStatus.RUNNING)
"""Statuses in which images are published and judged."""

ENDED = (ScanStatus.DONE, ScanStatus.CANCELLED)
"""Statuses that a scan does not leave, but by a repair."""

LIMITS_AFTER = 1000
"""Outcomes before a scan's limits are looked at: of the first ten images, five may well be fake."""


def open_scan(session: Session, job: JudgeImages, message_id: UUID, *, fake_from: float, real_to: float) -> Scan:
    """The scan that a message belongs to. A message without one is a submission, named by its message id.

    Thresholds that the scan leaves to the detector are filled in with these, once for the whole scan.
    Raises InvalidMessageError when the message names a scan that does not exist.
    """
    scan = session.get(Scan, job.scan_id or message_id)
    if scan is None and job.scan_id is not None:
        raise InvalidMessageError(f"there is no scan {job.scan_id}")
    scan = scan or _open_submission(session, job, message_id)
    fill_thresholds(session, scan, fake_from=fake_from, real_to=real_to)
    return scan


def fill_thresholds(session: Session, scan: Scan, *, fake_from: float, real_to: float) -> None:
    """Gives the scan these thresholds where it has none. Of many that try, the first one does it."""
    policy = Policy.model_validate(scan.policy)
    if policy.fake_from is None or policy.real_to is None:
        filled = policy.filled(fake_from=fake_from, real_to=real_to).stored()
        mine = (col(Scan.id) == scan.id, col(Scan.policy) == scan.policy)
        session.execute(update(Scan).where(*mine).values(policy=filled))
        session.refresh(scan)


def _open_submission(session: Session, job: JudgeImages, message_id: UUID) -> Scan:
    partition = live_partition(datetime.now(UTC))
    ensure_partition(session, partition)
    values = {
        "id": message_id,
        "kind": "live",
        "name": "submission",
        "source": "message",
        "policy": Policy(explain=job.explain or Explain.FLAGGED).stored(),
        "partition": partition,
        "status": ScanStatus.RUNNING,
        "listed": len(job.images),
    }
    session.execute(insert(Scan).values(**values).on_conflict_do_nothing())
    return session.get_one(Scan, message_id)


def set_aside(session: Session, scan: Scan, job: JudgeImages) -> bool:
    """Keeps the message of a paused scan until somebody resumes it; whether it did so."""
    if scan.status != ScanStatus.PAUSED:
        return False
    # Locked, so that whoever resumes the scan finds this message.
    session.refresh(scan, with_for_update=True)
    if scan.status != ScanStatus.PAUSED:
        return False
    log.info("message_set_aside", scan_id=str(scan.id), images=len(job.images))
    message = job.model_copy(update={"scan_id": scan.id})
    session.add(Unpublished(scan_id=scan.id, messages=[message.payload()]))
    return True


def takes_findings(scan: Scan) -> bool:
    """Whether images of the scan are still to be judged: it is not cancelled, and its findings are not dropped."""
    return scan.status != ScanStatus.CANCELLED and scan.dropped_at is None


def is_dropped(session: Session, scan_id: UUID) -> bool:
    """Whether retention has dropped the scan's findings while its last images were judged: they have no place."""
    return session.execute(select(col(Scan.dropped_at)).where(col(Scan.id) == scan_id)).scalar() is not None


def raise_counters(session: Session, scan_id: UUID, counters: dict[str, int], detector_id: int) -> None:
    """Adds to a scan's counters, and ends or pauses the scan where that is due."""
    decided = sum(counters.get(name, 0) for name in ("judged", "reused", "failed"))
    raised = {name: getattr(Scan, name) + count for name, count in counters.items()}
    age_s = func.extract("epoch", func.clock_timestamp() - func.coalesce(Scan.counted_at, func.now()))
    session.execute(
        update(Scan)
        .where(col(Scan.id) == scan_id)
        .values(
            **raised,
            rate=Scan.rate * func.exp(-age_s / RATE_WINDOW_S) + max(decided, 0) / RATE_WINDOW_S,
            counted_at=func.clock_timestamp(),
            detector_ids=with_detector(detector_id),
        )
    )
    finish_if_full(session, scan_id)
    pause_at_limits(session, scan_id)
    # A message of an image that a repair did not find any more may come after the end.
    now_decided = Scan.judged + Scan.reused + Scan.failed
    late = (col(Scan.id) == scan_id, col(Scan.status) == ScanStatus.DONE, col(Scan.listed) < now_decided)
    session.execute(update(Scan).where(*late).values(listed=now_decided))


def with_detector(detector_id: int) -> ColumnElement[list[int]]:
    """The new value of a scan's `detector_ids`: with this one."""
    there = col(Scan.detector_ids).contains([detector_id])
    return case((there, Scan.detector_ids), else_=func.array_append(Scan.detector_ids, detector_id))


def finish_if_full(session: Session, scan_id: UUID) -> None:
    """Marks a scan done when its listing is complete and every listed image has an outcome."""
    full = col(Scan.judged) + col(Scan.reused) + col(Scan.failed) >= col(Scan.listed)
    finished = session.execute(
        update(Scan)
        .where(col(Scan.id) == scan_id, col(Scan.status) == ScanStatus.RUNNING, full)
        .values(status=ScanStatus.DONE, finished_at=func.now())
        .returning(col(Scan.id), col(Scan.partition))
    ).one_or_none()
    if finished is None:
        return
    # What was deleted from the source before a repair is not listed any more, but its message may still be decided.
    if to_come := settle_repaired(session, scan_id, finished.partition):
        listed = Scan.judged + Scan.reused + Scan.failed + to_come
        again = {"status": ScanStatus.RUNNING, "finished_at": None, "listed": listed}
        session.execute(update(Scan).where(col(Scan.id) == scan_id).values(again))
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
    decided = col(Scan.judged) + col(Scan.reused) + col(Scan.failed)
    flagged = col(Scan.fake) > col(Scan.max_flagged_share) * (col(Scan.judged) + col(Scan.reused))
    failed = col(Scan.failed) > col(Scan.max_failed_share) * decided
    note = case(
        (flagged, func.format("%s of %s images are flagged; the limit is a share of %s",
                              Scan.fake, Scan.judged + Scan.reused, Scan.max_flagged_share)),
        else_=func.format("%s of %s images failed; the limit is a share of %s",
                          Scan.failed, decided, Scan.max_failed_share),
    )  # fmt: skip
    session.execute(
        update(Scan)
        .where(col(Scan.id) == scan_id, col(Scan.status).in_(ACTIVE), decided >= LIMITS_AFTER, flagged | failed)
        .values(status=ScanStatus.PAUSED, paused_from=Scan.status, note=note)
    )
