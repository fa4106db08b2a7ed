"""Makes the rows of `verdicts`, `objects`, `content_hashes` and `findings` for the images of a message, and saves them.

A new column of `findings` gets its value in `_finding`. A producer writes the findings of unchanged images without a
message: see saving.insert_unchanged.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import delete
from sqlmodel import col

from worker.case import Asked, Case, Content, Delivery, End, Failed, Judged, Later, Reused
from worker.database.connection import Database, autocommit, transaction
from worker.database.counters import settle
from worker.database.patience import patient
from worker.database.saving import save_statement
from worker.detector.verdicts import verdict_of
from worker.messages import FilledPolicy, Record
from worker.tables import Finding, Outcome, Verdict
from worker.texts import storable


@patient
def save(database: Database, cases: Sequence[Case], delivery: Delivery) -> Sequence[Case]:
    """Saves the ends of a message's images together. Images that are left for later are skipped.

    Returns the cases whose findings were new: a message that is saved twice is counted once. If retention has already
    dropped the scan, no finding is saved.
    Raises DatabaseUnavailableError.
    """
    findings = [row for case in cases if (row := _finding(case, delivery))]
    if not findings:
        return []
    rows = {
        "verdicts": _json(row for case in cases for row in _verdicts(case, delivery)),
        "objects": _json(_object(case, delivery) for case in cases),
        "content_hashes": _json(_hashes(cases, delivery)),
        "provenance": _json(_provenance(cases)),
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


def _verdicts(case: Case, delivery: Delivery) -> Iterator[dict[str, Any]]:
    """Yields the rows of `verdicts`: one for each detector that judged the image itself."""
    content = _content(case.end)
    if content is None:
        return
    main = Asked(delivery.detector_id, delivery.policy, delivery.maker_id)
    given = [(main, case.end.judgement)] if isinstance(case.end, Judged) else []
    by_id = {asked.detector_id: asked for asked in delivery.also}
    given += [(by_id[one.detector_id], one.judgement) for one in case.opinions if one.judgement]
    for asked, judgement in given:
        width, height = _size(case.end)
        yield {
            "sha256": content.sha256,
            "detector_id": asked.detector_id,
            "uri": case.ref.uri,
            "width": width,
            "height": height,
            "explain": asked.policy.explain,
            "maker_id": asked.maker_id,
            **asdict(judgement),
        }


def _size(end: End) -> tuple[int, int]:
    """The size of an image that was decoded."""
    match end:
        case Judged(_, _, size) | Failed(_, _, (int(), int()) as size):
            return size
        case Reused(_, known):
            return known.width, known.height
        case _:
            raise TypeError(end)


def _object(case: Case, delivery: Delivery) -> dict[str, Any] | None:
    """Returns the row of `objects`, or None if the content is unknown or `objects` already says the same."""
    content = _content(case.end)
    if content is None:
        return None
    verdict = (outcome_of(case.end, delivery.policy) or {}).get("verdict")
    rule = _rule(case, delivery) if verdict else None
    if isinstance(case.end, Reused) and case.end.remembered:
        # Only the rule may be new: without it, each night would publish an image that lacks a second opinion.
        lacks = rule is not None and is_missing(case, delivery) and delivery.scan.record == Record.CHANGES
        if not lacks:
            return None
    return {
        "uri": case.ref.uri,
        "etag": case.ref.etag,
        "sha256": content.sha256,
        "size": content.size,
        "verdict_id": _known_verdict_id(case.end),
        "verdict": verdict,
        "rule": rule,
    }


def _rule(case: Case, delivery: Delivery) -> int | None:
    """Returns the fingerprint of the rule by which an image with a verdict was decided, for the next scan.

    None: the next scan tries again, because a further detector of this worker refused the image or failed on it.
    """
    if not is_missing(case, delivery):
        return delivery.rule.fingerprint
    given = {one.detector_id for one in case.opinions}
    lacking = [one for one in delivery.also if one.detector_id not in given]
    if any(one.here for one in lacking) or len(given) + len(lacking) < len(delivery.policy.also):
        return None
    return delivery.rule.fingerprint_without([one.detector_id for one in lacking])


def _hashes(cases: Sequence[Case], delivery: Delivery) -> Iterable[dict[str, Any]]:
    """Returns a row of `content_hashes` for each content that was hashed. Fake and uncertain ones are in question."""
    rows = {}
    for case in cases:
        content = _content(case.end)
        if content is None or content.pdq is None:
            continue
        verdict = (outcome_of(case.end, delivery.policy) or {}).get("verdict")
        rows[content.sha256] = {
            "sha256": content.sha256,
            "pdq": f"x{content.pdq.bits}",
            "quality": content.pdq.quality,
            "in_question": verdict in {Verdict.FAKE, Verdict.UNCERTAIN},
        }
    return rows.values()


def _provenance(cases: Sequence[Case]) -> Iterable[dict[str, Any]]:
    """Returns a row of `provenance` for each content whose origin was read."""
    contents = (_content(case.end) for case in cases)
    return {
        one.sha256: {"sha256": one.sha256, **one.provenance.row()} for one in contents if one and one.provenance
    }.values()


def _finding(case: Case, delivery: Delivery) -> dict[str, Any] | None:
    """Returns the row of `findings`, or None for an image that is left for later."""
    outcome, content = outcome_of(case.end, delivery.policy), _content(case.end)
    return outcome and {
        "partition": delivery.scan.partition,
        "scan_id": delivery.scan.id,
        "uri": case.ref.uri,
        "external_id": case.ref.external_id,
        "etag": case.ref.etag,
        "sha256": content.sha256 if content else None,
        "attempts": delivery.attempt + 1,
        "verdict_id": _known_verdict_id(case.end),
        "opinions": [one.row() for one in case.opinions] if delivery.policy.also else None,
        **outcome,
    }


def is_missing(case: Case, delivery: Delivery) -> bool:
    """Whether a second opinion that the scan asks for is missing."""
    return len(case.opinions) < len(delivery.policy.also)


def outcome_of(end: End, policy: FilledPolicy) -> dict[str, Any] | None:
    """Returns the columns of `findings` that depend only on the end, or None for an image that is left for later."""
    match end:
        case Judged(_, judgement, size):
            return {"outcome": Outcome.JUDGED, **_scored(judgement.score, size, policy)}
        case Reused(_, known):
            scored = _scored(known.score, (known.width, known.height), policy)
            return {"outcome": Outcome.REUSED, "reused_from": known.uri, **scored}
        case Failed(error, _, size):
            width, height = size or (None, None)
            reason = {"reason": error.reason, "detail": clean(error.detail)}
            return {"outcome": Outcome.FAILED, **reason, "width": width, "height": height}
        case Later():
            return None


def _scored(score: float | None, size: tuple[int, int], policy: FilledPolicy) -> dict[str, Any]:
    verdict = verdict_of(score, fake_from=policy.fake_from, real_to=policy.real_to)
    return {"score": score, "verdict": verdict, "width": size[0], "height": size[1]}


def _content(end: End) -> Content | None:
    return None if isinstance(end, Later) else end.content


def _known_verdict_id(end: End) -> int | None:
    """The id of the reused verdict. None when the same message adds the verdict: the statement fills in the id."""
    return end.verdict.id if isinstance(end, Reused) else None


def clean(detail: str) -> str:
    """Returns one storable line of at most 500 characters. The error of a decoder or a server may contain anything."""
    return " ".join(storable(detail).split())[:500]
