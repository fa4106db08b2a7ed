"""Updates the counters of a scan when a message is saved, and then finishes the scan or pauses it at its limits."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Update, and_, case, cast, delete, false, func, or_, select, update
from sqlmodel import Session, col

from worker.database.figures import RATE_WINDOW_S
from worker.database.lifecycle import ACTIVE
from worker.tables import Finding, Repaired, Scan, ScanStatus, Suspect, Unpublished

COUNTERS = ("judged", "reused", "failed", "fake", "uncertain", "real")
"""Columns of `scans` that findings increase: three count outcomes, three the verdicts of judged and reused images."""

LIMITS_AFTER = 1000
"""The limits are checked only after this many findings: of the first ten images, five may be fake by chance."""


def increase_statement(new: Any, detector_id: Any) -> Any:
    """Builds the UPDATE that adds the columns of `new` to the counters with the same names, in the scan `new.scan_id`.

    It returns true when `settle` must run: every image has an outcome, a limit is passed, or there are more outcomes
    than images.
    """
    age_s = func.extract("epoch", func.clock_timestamp() - func.coalesce(Scan.counted_at, func.now()))
    values = {name: getattr(Scan, name) + new.c[name] for name in COUNTERS} | {
        "rate": Scan.rate * func.exp(-age_s / RATE_WINDOW_S) + func.greatest(_found(new.c), 0) / RATE_WINDOW_S,
        "counted_at": func.clock_timestamp(),
        "detector_ids": with_detector(detector_id),
    }
    due = func.coalesce(or_(_full(), _over_limits(), _late()), false())  # NULL if the scan has no such limit
    return _quietly(update(Scan).where(col(Scan.id) == new.c.scan_id).values(values)).returning(due)


def settle(session: Session, scan_id: UUID) -> None:
    """Marks the scan done if it is full, or pauses it if a limit is passed. Corrects `listed` for late messages."""
    if not finish_if_full(session, scan_id):
        pause_at_limits(session, scan_id)
    late = (col(Scan.id) == scan_id, _late())
    session.execute(_quietly(update(Scan).where(*late).values(listed=_decided())))


def with_detector(detector_id: Any) -> ColumnElement[list[int]]:
    """Returns the SQL value of `detector_ids` with this id added, unless it is there already."""
    there = func.array_position(Scan.detector_ids, cast(detector_id, BigInteger)).is_not(None)
    return case((there, Scan.detector_ids), else_=func.array_append(Scan.detector_ids, detector_id))


def finish_if_full(session: Session, scan_id: UUID) -> bool:
    """Marks the scan done when its listing is complete and every image has an outcome. Returns whether it did."""
    done = {"status": ScanStatus.DONE, "finished_at": func.now()}
    full = _quietly(update(Scan).where(col(Scan.id) == scan_id, _full()).values(done))
    finished = session.execute(full.returning(col(Scan.kind), col(Scan.partition))).one_or_none()
    if finished is None:
        return False
    # An image that was deleted from the source before a repair is not listed again, but its message may still come.
    if finished.kind == "scan" and (to_come := settle_repaired(session, scan_id, finished.partition)):
        again = {"status": ScanStatus.RUNNING, "finished_at": None, "listed": _decided() + to_come}
        session.execute(_quietly(update(Scan).where(col(Scan.id) == scan_id).values(again)))
        return False
    session.execute(delete(Unpublished).where(col(Unpublished.scan_id) == scan_id))
    session.execute(delete(Suspect).where(col(Suspect.scan_id) == scan_id))
    return True


def settle_repaired(session: Session, scan_id: UUID, partition: str) -> int:
    """Deletes the rows of `repaired` whose images have an outcome. Returns how many are left."""
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
    """Pauses the scan (circuit breaker) if the share of its flagged or failed images is too large."""
    with_verdict = Scan.judged + Scan.reused
    note = case(
        (_flags_too_many(), func.format("%s of %s images are flagged; the limit is a share of %s",
                                        Scan.fake, with_verdict, Scan.max_flagged_share)),
        else_=func.format("%s of %s images failed; the limit is a share of %s",
                          Scan.failed, _found(), Scan.max_failed_share),
    )  # fmt: skip
    paused = {"status": ScanStatus.PAUSED, "paused_from": Scan.status, "note": note}
    session.execute(_quietly(update(Scan).where(col(Scan.id) == scan_id, _over_limits()).values(paused)))


def _found(counts: Any = Scan) -> Any:
    """How many images have a finding."""
    return counts.judged + counts.reused + counts.failed


def _decided() -> Any:
    """How many images have a finding or are unchanged."""
    return _found() + Scan.unchanged


def _full() -> ColumnElement[bool]:
    return and_(col(Scan.status) == ScanStatus.RUNNING, _decided() >= Scan.listed)


def _late() -> ColumnElement[bool]:
    """Whether a late message added an image after the scan was done. A repair had not found this image any more."""
    return and_(col(Scan.status) == ScanStatus.DONE, _decided() > Scan.listed)


def _over_limits() -> ColumnElement[bool]:
    fails = Scan.failed > Scan.max_failed_share * _found()
    return and_(col(Scan.status).in_(ACTIVE), _found() >= LIMITS_AFTER, or_(_flags_too_many(), fails))


def _flags_too_many() -> ColumnElement[bool]:
    return col(Scan.fake) > col(Scan.max_flagged_share) * (Scan.judged + Scan.reused)


def _quietly(statement: Update) -> Update:
    """Does not update the objects that the session has loaded. Nobody reads them afterwards."""
    return statement.execution_options(synchronize_session=False)
