"""What a package says about itself: counts, the scans, and what it does not hold."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session, col

from producers.audit.selection import Selection, among
from producers.scans import find_scan
from worker.tables import Detector, Finding, Review, Scan, ScanStatus

_ENDED = {ScanStatus.DONE, ScanStatus.CANCELLED}


@dataclass(frozen=True)
class Facts:
    """`outcomes` has a row for each outcome, verdict and reason. `notes` are sentences for people."""

    selection: Selection
    scans: tuple[dict[str, Any], ...]
    detectors: tuple[dict[str, Any], ...]
    outcomes: tuple[dict[str, Any], ...]
    statements: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def read_facts(session: Session, selection: Selection) -> Facts:
    """Reads the facts. Raises NoSuchScanError."""
    if selection.scan_id is not None:
        find_scan(session, selection.scan_id)
    scans = session.execute(select(Scan).where(among(Scan.id, selection.scans)).order_by(col(Scan.id))).scalars().all()
    detectors: tuple[Any, ...] = (Detector.id, Detector.name, Detector.model, Detector.revision, Detector.fingerprint)
    kinds = (Finding.outcome, Finding.verdict, Finding.reason)
    return Facts(
        selection,
        tuple(_scan(scan) for scan in scans),
        _rows(session, select(*detectors).where(among(Detector.id, selection.detectors)).order_by(col(Detector.id))),
        _rows(session, _counted(kinds).where(selection.findings)),
        _rows(session, _counted((Review.kind, Review.statement)).where(among(Review.id, selection.reviews))),
        tuple(note for scan in scans for note in _notes(scan)),
    )


def _counted(columns: tuple[Any, ...]) -> Any:
    return select(*columns, func.count().label("count")).group_by(*columns).order_by(*columns)


def _rows(session: Session, query: Any) -> tuple[dict[str, Any], ...]:
    return tuple(dict(row) for row in session.execute(query).mappings())


def _scan(scan: Scan) -> dict[str, Any]:
    names = ("name", "source", "kind", "status", "listed", "judged", "reused", "unchanged", "failed")
    dropped = scan.dropped_at.isoformat() if scan.dropped_at else None
    return {"id": str(scan.id), **{name: getattr(scan, name) for name in names}, "dropped_at": dropped}


def _notes(scan: Scan) -> Iterator[str]:
    which = f"scan {scan.id} ({scan.name})"
    if scan.dropped_at is not None:
        yield (
            f"The findings of {which} were dropped at {scan.dropped_at:%Y-%m-%d %H:%M} UTC: this package holds none of "
            "them, and only those verdicts that reviews name."
        )
    if scan.status not in _ENDED:
        yield f"The {which} was {scan.status} when this package was built: outcomes that came later are not in it."
    left = scan.listed - scan.judged - scan.reused - scan.unchanged - scan.failed
    if scan.status == ScanStatus.CANCELLED and left > 0:
        yield f"The {which} was cancelled: {left} listed images have no outcome."
    if scan.unchanged:
        yield (
            f"The {which} recorded changes only: {scan.unchanged} unchanged images have no finding in it. What was "
            "decided about them is in the findings of earlier scans."
        )
