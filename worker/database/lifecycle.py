"""Opens the scan of a message, and says whether its images must still be judged."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from worker.database.detectors import further_detectors
from worker.database.partitions import ensure_partition, live_partition
from worker.errors import InvalidMessageError
from worker.messages import Explain, FilledPolicy, JudgeImages, Policy, Thresholds
from worker.tables import Scan, ScanStatus, Unpublished

ACTIVE = (ScanStatus.LISTING, ScanStatus.REPAIRING, ScanStatus.RUNNING)
"""Statuses in which images are published and judged."""

ENDED = (ScanStatus.DONE, ScanStatus.CANCELLED)
"""Statuses in which a scan has ended. Only a repair of a done scan reopens one."""


def open_scan(
    session: Session, job: JudgeImages, message_id: UUID, *, fake_from: float, real_to: float
) -> tuple[Scan, FilledPolicy]:
    """Returns the scan of a message and its policy. A message without a scan is a submission: its scan is created.

    The id of a submission is the message's id. Thresholds that the scan leaves to the detector are filled in with
    these, once for the whole scan.
    Raises InvalidMessageError when the message names a scan that does not exist.
    """
    scan = session.get(Scan, job.scan_id or message_id)
    if scan is None and job.scan_id is not None:
        raise InvalidMessageError(f"there is no scan {job.scan_id}")
    if scan is None:
        policy = _policy_of(session, job).filled(fake_from=fake_from, real_to=real_to)
        scan = _open_submission(session, job, message_id, policy)
    return scan, fill_thresholds(session, scan, fake_from=fake_from, real_to=real_to)


def fill_thresholds(session: Session, scan: Scan, *, fake_from: float, real_to: float) -> FilledPolicy:
    """Sets these thresholds where the scan has none. Returns its policy. If several workers try, the first one wins."""
    filled = Policy.model_validate(scan.policy).filled(fake_from=fake_from, real_to=real_to)
    if {"fake_from", "real_to"} <= scan.policy.keys():
        return filled
    mine = (col(Scan.id) == scan.id, col(Scan.policy) == scan.policy)
    changed = update(Scan).where(*mine).values(policy=filled.stored()).returning(col(Scan.id))
    if session.execute(changed).scalar() is None:
        session.refresh(scan)
    return FilledPolicy.model_validate(scan.policy)


def _policy_of(session: Session, job: JudgeImages) -> Policy:
    """Returns the policy of a submission, with the thresholds that its further detectors have now. The opinions of a
    detector that is not known are missing.
    """
    also = job.also or ()
    known = further_detectors(session) if also else {}
    described = {name: known[name].description for name in also if name in known}
    pinned = {name: Thresholds.model_validate(one["thresholds"]) for name, one in described.items() if one}
    return Policy(
        explain=job.explain or Explain.FLAGGED, judge=bool(job.judge), also=also, also_thresholds=pinned or None
    )


def _open_submission(session: Session, job: JudgeImages, message_id: UUID, policy: Policy) -> Scan:
    partition = live_partition(datetime.now(UTC))
    ensure_partition(session, partition)
    values = {
        "id": message_id,
        "kind": "live",
        "name": "submission",
        "source": "message",
        "policy": policy.stored(),
        "partition": partition,
        "status": ScanStatus.RUNNING,
        "listed": len(job.images),
    }
    opened = session.execute(insert(Scan).values(**values).on_conflict_do_nothing().returning(Scan))
    return opened.scalar() or session.get_one(Scan, message_id)


def set_aside(session: Session, scan: Scan, job: JudgeImages) -> bool:
    """Keeps the message of a paused scan until somebody resumes it. Returns whether it did."""
    if scan.status != ScanStatus.PAUSED:
        return False
    # The lock makes sure that the command which resumes the scan finds this message.
    session.refresh(scan, with_for_update=True)
    if scan.status != ScanStatus.PAUSED:
        return False
    import structlog  # noqa: PLC0415 - it takes 0.5 s to import, and commands that show a status do not need it

    structlog.get_logger(__name__).info("message_set_aside", scan_id=str(scan.id), images=len(job.images))
    session.add(Unpublished(scan_id=scan.id, messages=[job.of_scan(scan.id).payload()]))
    return True


def takes_findings(scan: Scan) -> bool:
    """Whether the scan still takes findings: it is not cancelled, and retention has not dropped its findings."""
    return scan.status != ScanStatus.CANCELLED and scan.dropped_at is None
