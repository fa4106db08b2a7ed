"""Saving what became of images, as rows of `verdicts`, `objects` and `findings`: a message's, or a listed chunk's."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import structlog
from sqlalchemy import CTE, ColumnElement, Executable, delete, func, literal, select
from sqlalchemy import case as sql_case
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from worker.case import Case, Delivery, End, Failed, Judged, Later, Reused, ReuseRule
from worker.database import Database, transaction
from worker.database.counters import raise_counters
from worker.database.known import unchanged_refs
from worker.database.lifecycle import is_dropped
from worker.detector.verdicts import verdict_of
from worker.errors import DatabaseUnavailableError
from worker.messages import FilledPolicy
from worker.tables import Finding, Outcome, Scan, StoredObject, StoredVerdict, Verdict

log = structlog.get_logger(__name__)

Row = dict[str, Any]


@retry(
    retry=retry_if_exception_type(DatabaseUnavailableError),
    wait=wait_random_exponential(max=5),
    stop=stop_after_attempt(4),
    reraise=True,
)
def save(database: Database, cases: Sequence[Case], delivery: Delivery) -> None:
    """Saves the ends of a message's images in one transaction, but for those that are left for later.

    Saving twice is saving once. Nothing is saved of a scan whose findings retention has dropped meanwhile.
    Raises DatabaseUnavailableError.
    """
    # In one order everywhere, so that two messages with the same uris cannot lock each other out.
    ordered = sorted(cases, key=lambda case: case.ref.uri)
    try:
        with transaction(database) as session:
            _save(session, ordered, delivery)
    except IntegrityError:
        with transaction(database) as session:
            if not is_dropped(session, delivery.scan.id):
                raise
        log.info("findings_of_dropped_scan", scan_id=str(delivery.scan.id), images=len(ordered))


def _save(session: Session, cases: Sequence[Case], delivery: Delivery) -> None:
    verdict_ids = _add_verdicts(session, cases, delivery)
    _remember_objects(session, cases, verdict_ids)
    counters = _add_findings(session, cases, verdict_ids, delivery)
    # Last in its transaction: the scan's row is locked for the shortest time.
    if any(counters.values()) and not raise_counters(session, delivery.scan.id, counters, delivery.detector_id):
        session.rollback()  # dropped meanwhile


def _add_verdicts(session: Session, cases: Sequence[Case], delivery: Delivery) -> dict[str, int]:
    """Appends the message's own verdicts; their ids by the SHA-256 of the content."""
    rows = [
        {
            "sha256": case.content.sha256,
            "detector_id": delivery.detector_id,
            "uri": case.ref.uri,
            "width": case.end.size[0],
            "height": case.end.size[1],
            "explain": delivery.policy.explain,
            **asdict(case.end.judgement),
        }
        for case in cases
        if isinstance(case.end, Judged) and case.content
    ]
    if not rows:
        return {}
    statement = insert(StoredVerdict).returning(col(StoredVerdict.sha256), col(StoredVerdict.id))
    return {row.sha256: row.id for row in _execute(session, statement, rows)}


def _remember_objects(session: Session, cases: Sequence[Case], verdict_ids: Mapping[str, int]) -> None:
    """Upserts what lies where. A listed ETag is not forgotten when the same content comes without one."""
    rows = [
        {
            "uri": case.ref.uri,
            "etag": case.ref.etag,
            "sha256": case.content.sha256,
            "size": case.content.size,
            "verdict_id": _verdict_id(case, verdict_ids),
        }
        for case in cases
        if case.content and not case.remembered
    ]
    if not rows:
        return
    statement = insert(StoredObject)
    new = statement.excluded
    kept = sql_case((col(StoredObject.sha256) == new.sha256, col(StoredObject.etag)))
    values: Row = {name: new[name] for name in ("sha256", "size", "verdict_id")}
    values |= {"etag": func.coalesce(new.etag, kept), "fetched_at": func.now()}
    upsert = statement.on_conflict_do_update(index_elements=["uri"], set_=values)
    _execute(session, upsert.returning(col(StoredObject.uri)), rows)


def _add_findings(
    session: Session, cases: Sequence[Case], verdict_ids: Mapping[str, int], delivery: Delivery
) -> dict[str, int]:
    """Inserts the findings that are new; what the scan's counters rise by.

    With `again`, a new finding takes the place of a failure.
    """
    rows = [row for case in cases if (row := _finding(case, verdict_ids, delivery))]
    if not rows:
        return {}
    counters: dict[str, int] = {}
    if delivery.again:
        own = (col(Finding.partition) == delivery.scan.partition, col(Finding.scan_id) == delivery.scan.id)
        uris = [row["uri"] for row in rows]
        failed = delete(Finding).where(*own, col(Finding.uri).in_(uris), col(Finding.outcome) == Outcome.FAILED)
        counters[Outcome.FAILED] = -len(session.execute(failed.returning(col(Finding.uri))).all())
    statement = insert(Finding).on_conflict_do_nothing().returning(col(Finding.outcome), col(Finding.verdict))
    for outcome, verdict in _execute(session, statement, rows):
        counters[outcome] = counters.get(outcome, 0) + 1
        if verdict is not None:
            counters[verdict] = counters.get(verdict, 0) + 1
    return counters


def _execute(session: Session, statement: Executable, rows: Sequence[Row]) -> Any:
    """Inserts all rows in one statement, which needs a RETURNING, and gives what that returns.

    On the connection: the session's own bulk insert would send rows apart that differ in which columns are null.
    """
    return session.connection().execute(statement, rows)


def _finding(case: Case, verdict_ids: Mapping[str, int], delivery: Delivery) -> Row | None:
    """The row of `findings`; None for an image that is left for later."""
    outcome = _outcome(case.end, delivery.policy)
    if outcome is None:
        return None
    return {
        "partition": delivery.scan.partition,
        "scan_id": delivery.scan.id,
        "uri": case.ref.uri,
        "external_id": case.ref.external_id,
        "etag": case.ref.etag,
        "sha256": case.content.sha256 if case.content else None,
        "attempts": delivery.attempt + 1,
        "verdict_id": _verdict_id(case, verdict_ids),
        **outcome,
    }


_OUTCOME: Row = dict.fromkeys(("verdict", "score", "reused_from", "reason", "detail", "width", "height"))
"""The columns that depend on the end. Every row names them all: rows are inserted together."""


def _outcome(end: End, policy: FilledPolicy) -> Row | None:
    match end:
        case Judged(judgement, (width, height)):
            own: Row = {"outcome": Outcome.JUDGED, "score": judgement.score, "width": width, "height": height}
        case Reused(known):
            own = {"outcome": Outcome.REUSED, "reused_from": known.uri}
            own |= {"score": known.score, "width": known.width, "height": known.height}
        case Failed(error, size):
            own = {"outcome": Outcome.FAILED, "reason": error.reason, "detail": clean(error.detail)}
            own |= {"width": size[0], "height": size[1]} if size else {}
            return _OUTCOME | own
        case Later():
            return None
    verdict = verdict_of(own["score"], fake_from=policy.fake_from, real_to=policy.real_to)
    return _OUTCOME | own | {"verdict": verdict}


def _verdict_id(case: Case, verdict_ids: Mapping[str, int]) -> int | None:
    """The row of the verdict that is reused, or that the message has added on the same content."""
    if isinstance(case.end, Reused) and case.end.verdict.id is not None:
        return case.end.verdict.id
    return verdict_ids.get(case.content.sha256) if case.content else None


def clean(detail: str) -> str:
    """One line of text that Postgres takes: it refuses NUL characters, and an error of a decoder may hold some."""
    text = detail.replace("\x00", "").encode(errors="backslashreplace").decode()
    return " ".join(text.split())[:500]


def insert_unchanged(scan: Scan, rule: ReuseRule) -> tuple[CTE, Insert]:
    """The insertion of findings for the refs of a page that are unchanged: those, and the statement.

    What `save` does for a message, for a listed chunk in the database: both write the same rows.
    """
    known = unchanged_refs(rule)
    row: Row = {
        "partition": literal(scan.partition),
        "scan_id": literal(scan.id),
        "uri": known.c.uri,
        "external_id": known.c.external_id,
        "outcome": literal(Outcome.REUSED.value),
        "verdict": _verdict_in_sql(known.c.score, rule.policy),
        "score": known.c.score,
        "verdict_id": known.c.verdict_id,
        "reused_from": known.c.judged_at,
        "etag": known.c.etag,
        "sha256": known.c.sha256,
        "width": known.c.width,
        "height": known.c.height,
        "attempts": literal(1),
    }
    return known, insert(Finding).from_select(list(row), select(*row.values()))


def _verdict_in_sql(score: ColumnElement[float | None], policy: FilledPolicy) -> ColumnElement[str]:
    """See worker.detector.verdicts.verdict_of."""
    return sql_case(
        (score >= policy.fake_from, Verdict.FAKE.value),
        (score <= policy.real_to, Verdict.REAL.value),
        else_=Verdict.UNCERTAIN.value,
    )
