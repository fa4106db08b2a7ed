"""Dedupe before fetching: a page of listed objects is compared with what is known of them, in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ARRAY, Text, bindparam, case, func, literal, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from worker import lifecycle
from worker.database import reusable
from worker.messages import ImageRef, Policy
from worker.tables import Detector, Finding, Outcome, Scan, StoredObject, StoredVerdict, Verdict


@dataclass(frozen=True)
class Deduped:
    """What became of a page: `left` are the refs to publish, `counters` what the scan's counters rise by."""

    left: Sequence[ImageRef]
    counters: dict[str, int] = field(default_factory=dict)


def reusing_detector(session: Session, scan: Scan) -> int | None:
    """The id of the detector whose verdicts the scan reuses: the one that a worker last started with.

    Its thresholds become the scan's where that has none. None before the first worker has started.
    """
    query = select(Detector).where(col(Detector.started_at).is_not(None)).order_by(col(Detector.started_at).desc())
    detector = session.execute(query.limit(1)).scalars().first()
    if detector is None or detector.description is None:
        return None
    lifecycle.fill_thresholds(session, scan, **detector.description["thresholds"])
    return int(detector.id or 0)


def reuse_known(session: Session, scan: Scan, refs: Sequence[ImageRef], detector_id: int | None) -> Deduped:
    """Writes the findings of what has the same ETag and a verdict of this detector, and leaves the rest.

    ETags are compared and not understood: of an object put in parts it is no MD5 of the content.
    """
    if detector_id is None or not refs:
        return Deduped(refs)
    listed = _listed()
    known = _known(listed, scan, detector_id)
    columns = [column.name for column in known.c if column.name != "n"]
    reused = (
        insert(Finding)
        .from_select(columns, select(*(known.c[name] for name in columns)))
        .on_conflict_do_nothing()
        .returning(col(Finding.verdict))
        .cte("reused")
    )
    verdicts = select(func.array_agg(reused.c.verdict)).scalar_subquery()
    numbers = select(func.array_agg(known.c.n)).scalar_subquery()
    found = session.execute(
        select(verdicts, numbers),
        {
            "uris": [ref.uri for ref in refs],
            "etags": [ref.etag for ref in refs],
            "external_ids": [ref.external_id for ref in refs],
        },
    ).one()
    known_numbers = set(found[1] or ())
    counters = {Outcome.REUSED.value: len(found[0] or ())}
    for verdict in found[0] or ():
        counters[verdict] = counters.get(verdict, 0) + 1
    return Deduped([ref for n, ref in enumerate(refs, start=1) if n not in known_numbers], counters)


def undecided(session: Session, scan: Scan, refs: Sequence[ImageRef]) -> list[ImageRef]:
    """Of the refs, those without a finding in the scan."""
    query = select(col(Finding.uri)).where(
        col(Finding.partition) == scan.partition,
        col(Finding.scan_id) == scan.id,
        col(Finding.uri) == func.any(bindparam("uris", type_=ARRAY(Text))),
    )
    decided = set(session.execute(query, {"uris": [ref.uri for ref in refs]}).scalars())
    return [ref for ref in refs if ref.uri not in decided]


def _listed() -> Any:
    arrays = (bindparam(name, type_=ARRAY(Text)) for name in ("uris", "etags", "external_ids"))
    return (
        func.unnest(*arrays)
        .table_valued("uri", "etag", "external_id", with_ordinality="n", name="listed")
        .render_derived()
    )


def _known(listed: Any, scan: Scan, detector_id: int) -> Any:
    """The rows of findings for what is known, and `n`, their number in the page."""
    policy = Policy.model_validate(scan.policy)
    since = scan.created_at if scan.rejudge else None
    newest = (
        select(StoredVerdict)
        .where(col(StoredVerdict.sha256) == StoredObject.sha256, *reusable(detector_id, policy, since))
        .order_by(col(StoredVerdict.id).desc())
        .limit(1)
        .lateral("newest")
    )
    verdict = case(
        (newest.c.score >= policy.fake_from, Verdict.FAKE.value),
        (newest.c.score <= policy.real_to, Verdict.REAL.value),
        else_=Verdict.UNCERTAIN.value,
    )
    return (
        select(  # type: ignore[call-overload]  # more columns than it has overloads for
            listed.c.n,
            literal(scan.partition).label("partition"),
            literal(scan.id).label("scan_id"),
            listed.c.uri,
            listed.c.external_id,
            literal(Outcome.REUSED.value).label("outcome"),
            verdict.label("verdict"),
            newest.c.score,
            newest.c.id.label("verdict_id"),
            newest.c.uri.label("reused_from"),
            listed.c.etag,
            StoredObject.sha256,
            newest.c.width,
            newest.c.height,
            literal(1).label("attempts"),
        )
        .select_from(listed)
        .join(StoredObject, (col(StoredObject.uri) == listed.c.uri) & (col(StoredObject.etag) == listed.c.etag))
        .join(newest, true())
        .cte("known")
    )
