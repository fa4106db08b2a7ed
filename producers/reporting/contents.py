"""Lists the contents that detectors flagged, with their history: what `fakesweep flagged` shows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlmodel import Session, col

from producers.scans import find_scan
from worker.database import Database, transaction
from worker.errors import ScanStateError
from worker.tables import ContentHistory, Detector, Finding, StoredVerdict, Verdict

_HISTORY = ("places", "first_flagged_at", "first_flagged_uri", "first_flagged_scan_id", "last_flagged_at",
            "last_flagged_uri", "last_flagged_scan_id", "superseded", "statement", "reviewed_at")  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Filters for flagged contents: first flagged at `since` or later, without a person's decision, flagged by this
    scan.
    """

    since: datetime | None = None
    unreviewed: bool = False
    scan_id: UUID | None = None


def flagged(database: Database, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """Yields the contents as JSON shows them. The content that was first flagged most recently comes first. A content
    that two detectors flagged comes twice.

    Raises NoSuchScanError, and ScanStateError if the findings of the scan were dropped.
    """
    query = (
        select(ContentHistory, Detector, col(StoredVerdict.explanation))
        .join(Detector, col(Detector.id) == col(ContentHistory.detector_id))
        .outerjoin(StoredVerdict, col(StoredVerdict.id) == col(ContentHistory.verdict_id))
        .where(col(ContentHistory.first_flagged_at).is_not(None))
        .order_by(col(ContentHistory.first_flagged_at).desc(), col(ContentHistory.sha256))
        .limit(limit)
    )
    if wanted.since is not None:
        query = query.where(col(ContentHistory.first_flagged_at) >= wanted.since)
    if wanted.unreviewed:
        query = query.where(col(ContentHistory.statement).is_(None))
    with transaction(database) as session:
        if wanted.scan_id is not None:
            judged = tuple_(col(ContentHistory.sha256), col(ContentHistory.detector_id))
            query = query.where(judged.in_(_of_scan(session, wanted.scan_id)))
        return [_row(*found) for found in session.execute(query)]


def _of_scan(session: Session, scan_id: UUID) -> Any:
    scan = find_scan(session, scan_id)
    if scan.dropped_at is not None:
        raise ScanStateError(f"scan {scan_id}: its findings were dropped at {scan.dropped_at:%Y-%m-%d %H:%M}")
    own = (col(Finding.partition) == scan.partition, col(Finding.scan_id) == scan_id)
    found = select(col(Finding.sha256), col(StoredVerdict.detector_id))
    found = found.join(StoredVerdict, col(StoredVerdict.id) == col(Finding.verdict_id))
    return found.where(*own, col(Finding.verdict) == Verdict.FAKE)


def _row(content: ContentHistory, detector: Detector, explanation: str | None) -> dict[str, Any]:
    known = content.model_dump(mode="json")
    return {
        **{name: known[name] for name in ("sha256", "verdict", "score")},
        "detector": detector.name,
        "gives_reasons": detector.gives_reasons,
        "explanation": explanation,
        **{name: known[name] for name in _HISTORY},
    }
