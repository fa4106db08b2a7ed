"""Compares a page of listed objects with what is known about them, in one statement, before anything is fetched."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations
from typing import Any

from sqlalchemy import case, func, not_, select
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from worker.case import Asked, ReuseRule
from worker.database.asking import asked_of
from worker.database.detectors import answer_limit, further_detectors, started_last
from worker.database.known import changed_query, etags_as_json, lacking_query, refs_as_json
from worker.database.lifecycle import fill_thresholds
from worker.database.unchanged import insert_unchanged, update_objects
from worker.messages import FilledPolicy, ImageRef, Record
from worker.tables import Finding, Outcome, Scan, ScanStatus


@dataclass(frozen=True)
class Deduped:
    """The result for a page: `left` are the image refs to publish; `counters` is how much the scan's counters grow."""

    left: Sequence[ImageRef]
    counters: dict[str, int] = field(default_factory=dict)


def fill_reuse_rule(session: Session, scan: Scan) -> ReuseRule | None:
    """Fills in the scan's thresholds and returns its reuse rule. Both come from the detector that a worker started with
    last.

    Returns None if no worker has started yet, or none with one of the scan's further detectors.
    """
    detector = started_last(session)
    if detector is None or detector.description is None or detector.id is None:
        return None
    policy = fill_thresholds(session, scan, **detector.description["thresholds"])
    also = _asked(session, policy)
    if also is None:
        return None
    return ReuseRule.of(scan, policy.of_detector(answer_limit(detector.description)), detector.id, also)


def _asked(session: Session, policy: FilledPolicy) -> Sequence[Asked] | None:
    """Returns what the scan asks of its further detectors, or None if no worker has started with one of them."""
    known = further_detectors(session) if policy.also else {}
    asked = []
    for name in policy.also:
        if (found := known.get(name)) is None or (one := asked_of(found, policy)) is None:
            return None
        asked.append(one)
    return asked


def reuse_unchanged(session: Session, scan: Scan, refs: Sequence[ImageRef], rule: ReuseRule | None) -> Deduped:
    """Reuses the verdicts on unchanged images that the rule allows. Returns the other refs.

    It writes a finding for each, or counts the image as unchanged: see Record.
    """
    if rule is None or not refs:
        return Deduped(refs)
    changed = refs
    fetched_before = scan.created_at if scan.status == ScanStatus.REPAIRING else None
    if scan.record == Record.CHANGES:
        # Most images of a nightly scan: only their rows of `objects` are read.
        numbers = session.execute(changed_query(rule, fetched_before), etags_as_json(refs)).scalars()
        changed = [refs[n - 1] for n in numbers]
    passed = len(refs) - len(changed)
    found = _reuse(session, scan, changed, rule) if changed else Deduped(changed)
    unchanged = found.counters.get("unchanged", 0) + passed
    found = Deduped(found.left, found.counters | {"unchanged": unchanged})
    if scan.record == Record.CHANGES and rule.also and found.left:
        return _leave_lacking(session, found, rule, fetched_before)
    return found


def _leave_lacking(session: Session, found: Deduped, rule: ReuseRule, fetched_before: datetime | None) -> Deduped:
    """Counts images as unchanged if they only lack opinions of detectors with which no worker has started since a
    worker decided them without these. Otherwise, each night would publish them, and store the same findings again.
    """
    ids = [one.detector_id for one in rule.also]
    numbers = {
        rule.fingerprint_without(some): len(some) for n in range(1, len(ids) + 1) for some in combinations(ids, n)
    }
    given = {**etags_as_json(found.left), "lacking": list(numbers)}
    lacking = {row.n: numbers[row.rule] for row in session.execute(lacking_query(fetched_before), given)}
    left = [ref for n, ref in enumerate(found.left, start=1) if n not in lacking]
    unchanged = found.counters["unchanged"] + len(lacking)
    more = {"unchanged": unchanged, "unchanged_missing_opinions": sum(lacking.values())}
    return Deduped(left, found.counters | more)


def _reuse(session: Session, scan: Scan, refs: Sequence[ImageRef], rule: ReuseRule) -> Deduped:
    parameters = refs_as_json(refs)
    try:
        # ON CONFLICT would make an insertion 50 % slower. It is needed only if another program sent a message for this
        # scan, because otherwise the finding cannot exist yet.
        with session.begin_nested():
            found = session.execute(_statement(scan, rule, len(refs)), parameters).one()
    except IntegrityError:
        found = session.execute(_statement(scan, rule, len(refs), careful=True), parameters).one()
    verdicts: dict[str, int] = found.counters or {}
    known = range(1, found.known + 1) if found.numbers is None else set(found.numbers)
    left = [refs[n - 1] for n in range(1, len(refs) + 1) if n not in known]
    return Deduped(left, verdicts | {Outcome.REUSED.value: sum(verdicts.values()), "unchanged": found.unchanged})


def _statement(scan: Scan, rule: ReuseRule, size: int, *, careful: bool = False) -> Any:
    """Builds the statement that inserts the findings of unchanged images.

    It returns one row: `counters` by verdict, how many images are `known` and how many of them leave no finding
    (`unchanged`), and the `numbers` of the known ones in the page, when these are not none or all of its `size`.
    """
    known, recorded, verdict, inserting = insert_unchanged(scan, rule)
    if careful:
        reused = inserting.on_conflict_do_nothing().returning(col(Finding.verdict)).cte("reused")
        verdicts = select(reused.c.verdict)
    else:
        # All rows are inserted, or none. Asking which ones were inserted would make the statement 17 % slower.
        reused = inserting.cte("reused")
        verdicts = select(verdict.label("verdict")).select_from(known).where(recorded)
    each = verdicts.subquery("each")
    by_verdict = select(each.c.verdict, func.count().label("images")).group_by(each.c.verdict).subquery()
    some = case((func.count().between(1, size - 1), func.array_agg(known.c.n)))
    counted = select(
        select(func.jsonb_object_agg(by_verdict.c.verdict, by_verdict.c.images)).scalar_subquery().label("counters"),
        select(func.count()).select_from(known).scalar_subquery().label("known"),
        select(func.count()).select_from(known).where(not_(recorded)).scalar_subquery().label("unchanged"),
        select(some).select_from(known).scalar_subquery().label("numbers"),
    ).add_cte(reused)
    if scan.record == Record.CHANGES:
        counted = counted.add_cte(update_objects(known, verdict, rule).cte("looked_at"))
    return counted
