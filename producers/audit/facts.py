"""What a package says about itself: counts, the scans, and what it does not hold."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session, col

from producers.audit.notes import SHOWN, named, read_notes
from producers.audit.selection import Selection, among
from producers.scans import find_scan
from worker.tables import Detector, Finding, Review, Scan

_COUNTS = ("listed", "judged", "reused", "unchanged", "failed")


@dataclass(frozen=True)
class Facts:
    """`scans` are the first ones, without submissions. `others` counts the rest, and adds up what they count.

    `outcomes` has a row for each outcome, verdict and reason. `notes` are sentences for people.
    """

    selection: Selection
    scans: tuple[dict[str, Any], ...]
    others: dict[str, Any]
    detectors: tuple[dict[str, Any], ...]
    outcomes: tuple[dict[str, Any], ...]
    statements: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def read_facts(session: Session, selection: Selection) -> Facts:
    """Reads the facts. Raises NoSuchScanError."""
    if selection.scan_id is not None:
        find_scan(session, selection.scan_id)
    scans = _scans(session, selection)
    detectors: tuple[Any, ...] = (Detector.id, Detector.name, Detector.model, Detector.revision, Detector.fingerprint)
    kinds = (Finding.outcome, Finding.verdict, Finding.reason)
    return Facts(
        selection,
        scans,
        _others(session, selection, scans),
        _rows(session, select(*detectors).where(among(Detector.id, selection.detectors)).order_by(col(Detector.id))),
        _rows(session, _counted(kinds).where(selection.findings)),
        _rows(session, _counted((Review.kind, Review.statement)).where(among(Review.id, selection.reviews))),
        read_notes(session, selection),
    )


def _counted(columns: tuple[Any, ...]) -> Any:
    return select(*columns, func.count().label("count")).group_by(*columns).order_by(*columns)


def _rows(session: Session, query: Any) -> tuple[dict[str, Any], ...]:
    return tuple(dict(row) for row in session.execute(query).mappings())


def _scans(session: Session, selection: Selection) -> tuple[dict[str, Any], ...]:
    names = ("id", "name", "source", "status", "dropped_at", *_COUNTS)
    columns = [getattr(Scan, name) for name in names]
    return _rows(session, select(*columns).where(named(selection)).order_by(col(Scan.id)).limit(SHOWN))


def _others(session: Session, selection: Selection, shown: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    sums = [func.coalesce(func.sum(getattr(Scan, name)), 0).label(name) for name in _COUNTS]
    others = col(Scan.id).not_in([scan["id"] for scan in shown])
    (row,) = _rows(session, select(func.count().label("count"), *sums).where(among(Scan.id, selection.scans), others))
    return row
