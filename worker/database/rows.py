"""The rows of `verdicts`, `objects`, `content_hashes`, `provenance` and `findings` that the images of a message add.

A new column of `findings` gets its value in `finding_row`. A producer writes the findings of unchanged images without a
message: see unchanged.insert_unchanged.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from worker.case import Asked, Case, Content, Delivery, End, Failed, Judged, Later, Reused
from worker.detector.verdicts import verdict_of
from worker.messages import FilledPolicy, Record
from worker.tables import Outcome, Verdict
from worker.texts import storable


def verdict_rows(case: Case, delivery: Delivery) -> Iterator[dict[str, Any]]:
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


def object_row(case: Case, delivery: Delivery) -> dict[str, Any] | None:
    """Returns the row of `objects`, or None if the content is unknown or `objects` already says the same."""
    content = _content(case.end)
    if content is None:
        return None
    verdict = (outcome_of(case.end, delivery.policy) or {}).get("verdict")
    rule = _rule(case, delivery) if verdict else None
    if isinstance(case.end, Reused) and case.end.remembered:
        # Only the rule may be new: without it, each night would publish an image that lacks a second opinion.
        lacks = delivery.scan.record == Record.CHANGES and _is_missing(case, delivery)
        if rule is None or not lacks:
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
    if not _is_missing(case, delivery):
        return delivery.rule.fingerprint
    given = {one.detector_id for one in case.opinions}
    lacking = [one for one in delivery.also if one.detector_id not in given]
    if any(one.here for one in lacking) or len(given) + len(lacking) < len(delivery.policy.also):
        return None
    return delivery.rule.fingerprint_without([one.detector_id for one in lacking])


def hash_rows(cases: Sequence[Case], delivery: Delivery) -> Iterable[dict[str, Any]]:
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


def provenance_rows(cases: Sequence[Case]) -> Iterable[dict[str, Any]]:
    """Returns a row of `provenance` for each content whose origin was read."""
    contents = (_content(case.end) for case in cases)
    return {
        one.sha256: {"sha256": one.sha256, **one.provenance.row()} for one in contents if one and one.provenance
    }.values()


def finding_row(case: Case, delivery: Delivery) -> dict[str, Any] | None:
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


def _is_missing(case: Case, delivery: Delivery) -> bool:
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
            reason = {"reason": error.reason, "detail": _clean(error.detail)}
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


def _clean(detail: str) -> str:
    """Returns one storable line of at most 500 characters. The error of a decoder or a server may contain anything."""
    return " ".join(storable(detail).split())[:500]
