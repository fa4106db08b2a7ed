"""Builds the statements with which a producer records a chunk's unchanged images, without a message."""

from typing import Any

from sqlalchemy import CTE, Boolean, ColumnElement, Update, case, func, literal, select, true, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlmodel import col

from worker.case import ReuseRule
from worker.database.known import unchanged_query
from worker.messages import FilledPolicy, Record
from worker.tables import Finding, Outcome, Scan, ScanStatus, StoredObject, Verdict


def insert_unchanged(scan: Scan, rule: ReuseRule) -> tuple[CTE, ColumnElement[bool], ColumnElement[str], Insert]:
    """Builds the query of the unchanged refs that have a verdict, and the INSERT of their findings.

    Returns the query, the condition for rows that get a finding, the verdict of each row, and the INSERT. The findings
    have the same values as those that `save` writes.
    """
    known = unchanged_query(rule, with_last=scan.record == Record.CHANGES)
    verdict = _verdict_of(known.c.score, rule.policy)
    opinions = func.jsonb_build_array(*(_opinion_of(known, one, n) for n, one in enumerate(rule.also)))
    recorded = true() if scan.record == Record.ALL else _is_new(known, verdict, opinions, scan, rule)
    row: dict[str, Any] = {
        "partition": literal(scan.partition),
        "scan_id": literal(scan.id),
        "uri": known.c.uri,
        "external_id": known.c.external_id,
        "outcome": literal(Outcome.REUSED.value),
        "verdict": verdict,
        "score": known.c.score,
        "verdict_id": known.c.verdict_id,
        "reused_from": known.c.judged_at,
        "etag": known.c.etag,
        "sha256": known.c.sha256,
        "width": known.c.width,
        "height": known.c.height,
        "attempts": literal(1),
    }
    if rule.also:
        row["opinions"] = opinions
    rows = select(*row.values()).where(recorded)
    return known, recorded, verdict, insert(Finding).from_select(list(row), rows)


def _opinion_of(known: CTE, rule: ReuseRule, n: int) -> Any:
    """Computes in SQL what Opinion.row computes."""
    score = known.c[f"score_{n}"]
    return func.jsonb_build_object(
        "detector_id", rule.detector_id, "verdict", _verdict_of(score, rule.policy), "score", score,
        "verdict_id", known.c[f"verdict_id_{n}"],
    )  # fmt: skip


def _is_new(
    known: CTE, verdict: ColumnElement[str], opinions: ColumnElement[Any], scan: Scan, rule: ReuseRule
) -> ColumnElement[bool]:
    """Whether the last finding had another verdict or another detector, or detectors differ by a rule that is new.

    In a repair, also whether the object was fetched after the scan began, or was last looked at by another rule: the
    listing publishes such images. A message with this image may still be on its way, and without a finding the image
    would be counted twice.
    """
    new = known.c.said.is_distinct_from(verdict) | known.c.said_by.is_distinct_from(rule.detector_id)
    by_another_rule = known.c.rule.is_distinct_from(rule.fingerprint)
    if rule.also:
        # Otherwise, nobody would see what further detectors already say about images that are unchanged.
        new |= by_another_rule & func.detectors_differ(verdict, opinions, type_=Boolean)
    if scan.status == ScanStatus.REPAIRING:
        new |= (known.c.fetched_at >= scan.created_at) | by_another_rule
    return new


def update_objects(known: CTE, verdict: ColumnElement[str], rule: ReuseRule) -> Update:
    """Builds the UPDATE that stores the new verdict of unchanged objects, and the rule that led to it."""
    values = {"verdict": verdict, "verdict_id": known.c.verdict_id, "rule": rule.fingerprint}
    return update(StoredObject).where(col(StoredObject.uri) == known.c.uri).values(values)


def _verdict_of(score: ColumnElement[float | None], policy: FilledPolicy) -> ColumnElement[str]:
    """Computes in SQL what worker.detector.verdicts.verdict_of computes."""
    return case(
        (score >= policy.fake_from, Verdict.FAKE.value),
        (score <= policy.real_to, Verdict.REAL.value),
        else_=Verdict.UNCERTAIN.value,
    )
