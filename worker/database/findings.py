"""Saving what became of a message's images."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import case, delete, func, null
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from worker.database.lifecycle import raise_counters
from worker.tables import Finding, Outcome, Scan, StoredObject, StoredVerdict


def add_verdict(session: Session, verdict: StoredVerdict) -> int:
    """Appends a verdict; its id."""
    values = verdict.model_dump(exclude={"id", "created_at"})
    return int(session.execute(insert(StoredVerdict).values(**values).returning(col(StoredVerdict.id))).scalar_one())


def save_findings(session: Session, scan: Scan, findings: Sequence[Finding], *, again: bool, detector_id: int) -> None:
    """Inserts the findings and raises the scan's counters by those that were really new, and ends the scan when full.

    With `again`, a new finding takes the place of a failure.
    The counters come last: the scan's row is locked for the shortest time.
    """
    if not findings:
        return
    rows = [finding.model_dump(exclude={"decided_at"}) for finding in findings]
    statement = (
        insert(Finding).values(rows).on_conflict_do_nothing().returning(col(Finding.outcome), col(Finding.verdict))
    )
    counters: dict[str, int] = {}
    if again:
        own = (col(Finding.partition) == scan.partition, col(Finding.scan_id) == scan.id)
        uris = [finding.uri for finding in findings]
        failed = delete(Finding).where(*own, col(Finding.uri).in_(uris), col(Finding.outcome) == Outcome.FAILED)
        counters[Outcome.FAILED] = -len(session.execute(failed.returning(col(Finding.uri))).all())
    for outcome, verdict in session.execute(statement):
        counters[outcome] = counters.get(outcome, 0) + 1
        if verdict is not None:
            counters[verdict] = counters.get(verdict, 0) + 1
    if counters:
        raise_counters(session, scan.id, counters, detector_id)


def remember_object(session: Session, stored: StoredObject) -> None:
    """Upserts what was fetched at a uri. A listed ETag is not forgotten when the same content comes without one."""
    values: dict[str, Any] = stored.model_dump(exclude={"fetched_at"})
    statement = insert(StoredObject).values(**values)
    if stored.etag is None:
        same = col(StoredObject.sha256) == stored.sha256
        values["etag"] = case((same, StoredObject.etag), else_=null())
    session.execute(statement.on_conflict_do_update(index_elements=["uri"], set_={**values, "fetched_at": func.now()}))
