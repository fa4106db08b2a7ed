"""Saves the ends of a message's images: all their rows in one statement, and the counters of the scan."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import delete
from sqlmodel import col

from worker.case import Case, Delivery, Later
from worker.database.connection import Database, autocommit, transaction
from worker.database.counters import settle
from worker.database.patience import patient
from worker.database.rows import finding_row, hash_rows, object_row, provenance_rows, verdict_rows
from worker.database.saving import save_statement
from worker.tables import Finding, Outcome


@patient
def save(database: Database, cases: Sequence[Case], delivery: Delivery) -> Sequence[Case]:
    """Saves the ends of a message's images together. Images that are left for later are skipped.

    Returns the cases whose findings were new: a message that is saved twice is counted once. If retention has already
    dropped the scan, no finding is saved.
    Raises DatabaseUnavailableError.
    """
    findings = [row for case in cases if (row := finding_row(case, delivery))]
    if not findings:
        return []
    rows = {
        "verdicts": _json(row for case in cases for row in verdict_rows(case, delivery)),
        "objects": _json(object_row(case, delivery) for case in cases),
        "content_hashes": _json(hash_rows(cases, delivery)),
        "provenance": _json(provenance_rows(cases)),
        "findings": _json(findings),
    }
    ids = {"scan_id": delivery.scan.id, "detector_id": delivery.detector_id}
    parameters = {**rows, **ids, "given": len(findings), "replaced": 0}
    new = _save_again(database, cases, delivery, parameters) if delivery.again else _save(database, parameters)
    # Also when nothing was new: an earlier attempt may have been saved before its connection broke.
    if new is None or new.due:
        with transaction(database) as session:
            settle(session, delivery.scan.id)
    decided = [case for case in cases if not isinstance(case.end, Later)]
    if new is None:
        return []
    return decided if new.uris is None else [case for case in decided if case.ref.uri in new.uris]


class _New(NamedTuple):
    """What the statement returns: whether `settle` must run, and which findings were new, or None for all of them."""

    due: bool
    uris: list[str] | None


def _save(database: Database, parameters: dict[str, Any]) -> _New | None:
    """Saves in one statement. Returns None when nothing was new.

    The statement commits by itself. All workers on a scan update the same row of `scans`, so it is locked only while
    Postgres works, and not until a thread of this process has its turn to commit.
    """
    with autocommit(database) as session:
        return _new(session.execute(save_statement(), parameters))


def _save_again(
    database: Database, cases: Sequence[Case], delivery: Delivery, parameters: dict[str, Any]
) -> _New | None:
    """Saves like `_save`, but new findings replace failures.

    This function locks findings before objects; all others lock objects first. If a late delivery of the same images
    runs at the same time, Postgres ends one of the two transactions, which is then tried again.
    """
    uris = [case.ref.uri for case in cases if not isinstance(case.end, Later)]
    own = (col(Finding.partition) == delivery.scan.partition, col(Finding.scan_id) == delivery.scan.id)
    failed = delete(Finding).where(*own, col(Finding.uri).in_(uris), col(Finding.outcome) == Outcome.FAILED)
    with transaction(database) as session:
        replaced = len(session.execute(failed.returning(col(Finding.uri))).all())
        return _new(session.execute(save_statement(), {**parameters, "replaced": replaced}))


def _new(result: Any) -> _New | None:
    row = result.one_or_none()
    return None if row is None else _New(*row)


def _json(rows: Iterable[dict[str, Any] | None]) -> str:
    return json.dumps([row for row in rows if row is not None], default=str, ensure_ascii=False)
