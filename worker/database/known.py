"""What need not be judged again: one rule, for workers and producers."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, false, literal, not_, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import Session, col

from worker.messages import Explain, ImageRef, Policy
from worker.tables import Finding, Outcome, Scan, StoredObject, StoredVerdict

_EXPLAINS_AS_MUCH = {
    Explain.ALL: (Explain.ALL,),
    Explain.FLAGGED: (Explain.ALL, Explain.FLAGGED),
    Explain.NONE: tuple(Explain),
}
"""Verdicts asked for in these modes may be reused in a scan of that mode: none explains less than is wanted."""


def decided_uris(session: Session, scan: Scan, refs: Sequence[ImageRef], *, again: bool) -> set[str]:
    """The uris that already have their finding in this scan: a redelivered message does nothing twice.

    With `again`, failures do not count.
    """
    query = select(col(Finding.uri)).where(
        col(Finding.partition) == scan.partition,
        col(Finding.scan_id) == scan.id,
        col(Finding.uri).in_([ref.uri for ref in refs]),
    )
    if again:
        query = query.where(col(Finding.outcome) != Outcome.FAILED)
    return set(session.execute(query).scalars())


def stored_objects(session: Session, refs: Sequence[ImageRef]) -> dict[str, StoredObject]:
    """By uri, what was fetched before of the refs whose ETag is unchanged."""
    wanted = {ref.uri: ref.etag for ref in refs if ref.etag}
    rows = session.execute(select(StoredObject).where(col(StoredObject.uri).in_(wanted))).scalars()
    return {row.uri: row for row in rows if row.etag == wanted[row.uri]}


def reusable(detector_id: int, policy: Policy, since: datetime | None = None) -> tuple[ColumnElement[bool], ...]:
    """What a stored verdict must be so that it can stand for a new one: of this detector, and explaining as much.

    An answer that a limit cut off counts where the policy's own limit would have cut it off as well. One that stopped
    without reasons, having said real, does not where the policy's threshold flags it. `since`: none from before then.
    """
    silent = and_(col(StoredVerdict.answer) == "real", col(StoredVerdict.explanation).is_(None))
    flagged = col(StoredVerdict.score) >= policy.fake_from if policy.fake_from is not None else false()
    cut_by_this_limit = col(StoredVerdict.completion_tokens) >= policy.max_tokens if policy.max_tokens else false()
    conditions = (
        col(StoredVerdict.detector_id) == detector_id,
        col(StoredVerdict.explain).in_(_EXPLAINS_AS_MUCH[policy.explain]),
        or_(not_(col(StoredVerdict.cut_off)), cut_by_this_limit),
        or_(not_(and_(silent, flagged)), literal(policy.explain is not Explain.FLAGGED)),
    )
    return conditions if since is None else (*conditions, col(StoredVerdict.created_at) >= since)


def known_verdicts(
    session: Session, contents: Collection[str], detector_id: int, policy: Policy, since: datetime | None = None
) -> dict[str, StoredVerdict]:
    """By SHA-256, the newest verdict on each content that is `reusable`."""
    query = (
        select(StoredVerdict)
        .where(col(StoredVerdict.sha256).in_(contents), *reusable(detector_id, policy, since))
        .ext(distinct_on(col(StoredVerdict.sha256)))
        .order_by(col(StoredVerdict.sha256), col(StoredVerdict.id).desc())
    )
    return {verdict.sha256: verdict for verdict in session.execute(query).scalars()}
