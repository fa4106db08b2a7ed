"""Dedupe before fetching: a page of listed objects is compared with what is known of them, in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ARRAY, BigInteger, Text, bindparam, case, column, func, literal, select, text, true, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from worker.database import lifecycle
from worker.database.known import reusable
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
    page = {"page": _REFS.dump_json(list(refs)).decode()}
    try:
        # ON CONFLICT makes an insertion half as dear again, and nothing but a stranger's message can be in the way.
        with session.begin_nested():
            found = session.execute(_statement(scan, detector_id, len(refs)), page).one()
    except IntegrityError:
        found = session.execute(_statement(scan, detector_id, len(refs), careful=True), page).one()
    counters: dict[str, int] = found.counters or {}
    known = range(1, found.known + 1) if found.numbers is None else set(found.numbers)
    left = [ref for n, ref in enumerate(refs, start=1) if n not in known]
    return Deduped(left, {**counters, Outcome.REUSED.value: sum(counters.values())})


def undecided(session: Session, scan: Scan, refs: Sequence[ImageRef]) -> list[ImageRef]:
    """Of the refs, those without a finding in the scan."""
    query = select(col(Finding.uri)).where(
        col(Finding.partition) == scan.partition,
        col(Finding.scan_id) == scan.id,
        col(Finding.uri) == func.any(bindparam("uris", type_=ARRAY(Text))),
    )
    decided = set(session.execute(query, {"uris": [ref.uri for ref in refs]}).scalars())
    return [ref for ref in refs if ref.uri not in decided]


def _statement(scan: Scan, detector_id: int, size: int, *, careful: bool = False) -> Any:
    """Inserts the findings of what is known; one row: `counters` by verdict, how many are `known`, and their `numbers`
    in the page where these are not none or all of its `size`.
    """
    known = _known(scan, detector_id)
    columns = [column.name for column in known.c if column.name != "n"]
    inserting = insert(Finding).from_select(columns, select(*(known.c[name] for name in columns)))
    if careful:
        inserting = inserting.on_conflict_do_nothing()
    reused = inserting.returning(col(Finding.verdict)).cte("reused")
    by_verdict = select(reused.c.verdict, func.count().label("images")).group_by(reused.c.verdict).subquery()
    some = case((func.count().between(1, size - 1), func.array_agg(known.c.n)))
    return select(
        select(func.jsonb_object_agg(by_verdict.c.verdict, by_verdict.c.images)).scalar_subquery().label("counters"),
        select(func.count()).select_from(known).scalar_subquery().label("known"),
        select(some).select_from(known).scalar_subquery().label("numbers"),
    )


_REFS = TypeAdapter(list[ImageRef])

_LISTED = """
SELECT uri, etag, external_id, n
FROM ROWS FROM (json_to_recordset(CAST(:page AS json)) AS (uri text, etag text, external_id text))
WITH ORDINALITY AS listed (uri, etag, external_id, n)
"""


def _known(scan: Scan, detector_id: int) -> Any:
    """The rows of findings for what is known, and `n`, their number in the page."""
    names = column("uri", Text), column("etag", Text), column("external_id", Text), column("n", BigInteger)
    listed = text(_LISTED).columns(*names).cte("listed")
    policy = Policy.model_validate(scan.policy)
    since = scan.created_at if scan.rejudge else None
    usable = (col(StoredVerdict.sha256) == StoredObject.sha256, *reusable(detector_id, policy, since))
    # The verdict that was last given there lies beside its neighbours'; any other has to be looked for by its content.
    given_there = select(StoredVerdict).where(col(StoredVerdict.id) == StoredObject.verdict_id, *usable)
    newest_at_all = select(StoredVerdict).where(*usable).order_by(col(StoredVerdict.id).desc()).limit(1)
    newest = union_all(given_there, newest_at_all).limit(1).lateral("newest")
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
