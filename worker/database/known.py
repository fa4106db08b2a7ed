"""Decides which images need not be judged again. Workers and producers use the same rule.

An image is decided when it has a finding in the scan. For any other image, a stored verdict is reused when it is about
the same content and the scan's ReuseRule allows it. The content is the same when the ETag at the uri is still the same
(`unchanged`), or when the SHA-256 is the same (`seen`).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic_core import to_json
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Row,
    Text,
    and_,
    bindparam,
    column,
    func,
    not_,
    select,
    text,
    true,
    union_all,
)
from sqlmodel import Session, col

from worker.case import Case, Content, KnownVerdict, Opinion, Reused, ReuseRule
from worker.messages import Explain, ImageRef
from worker.refs import ImageRefs
from worker.tables import ContentHash, ContentProvenance, Finding, Outcome, Scan, Stage, StoredObject, StoredVerdict

_EXPLAINS_AS_MUCH = {
    Explain.ALL: (Explain.ALL,),
    Explain.FLAGGED: (Explain.ALL, Explain.FLAGGED),
    Explain.NONE: tuple(Explain),
}
"""For each mode of a scan: the modes whose verdicts explain at least as much."""


def decided_uris(session: Session, scan: Scan, refs: Sequence[ImageRef], *, again: bool = False) -> set[str]:
    """Returns the uris that already have a finding in this scan, so that a redelivered message does nothing twice.

    With `again`, failed findings do not count.
    """
    query = select(col(Finding.uri)).where(
        col(Finding.partition) == scan.partition,
        col(Finding.scan_id) == scan.id,
        col(Finding.uri) == func.any(bindparam("uris", type_=ARRAY(Text))),
    )
    if again:
        query = query.where(col(Finding.outcome) != Outcome.FAILED)
    return set(session.execute(query, {"uris": [ref.uri for ref in refs]}).scalars())


def unchanged(session: Session, refs: Sequence[ImageRef], rule: ReuseRule) -> list[Case]:
    """Returns a case for each ref that has the ETag of its last fetch, and a verdict that the rule allows, also of each
    further detector.

    ETags are only compared: for an object that was uploaded in parts, the ETag is not the MD5 of the content.
    """
    if not any(ref.etag for ref in refs):
        return []
    rows = session.execute(select(unchanged_query(rule)), refs_as_json(refs))
    return [
        Case(
            refs[row.n - 1],
            Reused(Content(row.sha256, row.size), _verdict(row), row.remembered, "unchanged"),
            tuple(_opinion(one, row, n) for n, one in enumerate(rule.also)),
        )
        for row in rows
    ]


def _opinion(rule: ReuseRule, row: Row[Any], n: int) -> Opinion:
    """Returns the second opinion of the rule with this number."""
    return Opinion.of(rule, getattr(row, f"score_{n}"), getattr(row, f"verdict_id_{n}"))


def seen(
    session: Session, contents: Collection[str], rule: ReuseRule, provenance_revision: str | None = None
) -> dict[str, KnownVerdict]:
    """Returns the newest verdict that the rule allows for each content, by SHA-256.

    Also says whether its hash is stored, and what it says about its origin, in this revision of the reader.
    """
    unnested = func.unnest(bindparam("contents", list(contents), type_=ARRAY(Text)))
    asked = unnested.table_valued(column("sha256", Text)).render_derived("asked")
    newest = _newest(asked.c.sha256, rule)
    has_hash = col(ContentHash.sha256).is_not(None).label("has_hash")
    joined = asked.join(newest, true()).outerjoin(ContentHash, col(ContentHash.sha256) == asked.c.sha256)
    query = select(asked, newest, has_hash, _has_provenance(asked.c.sha256, provenance_revision)).select_from(joined)
    return {
        row.sha256: replace(_verdict(row), has_hash=row.has_hash, has_provenance=row.has_provenance)
        for row in session.execute(query)
    }


def _has_provenance(sha256: Any, revision: str | None) -> Any:
    """Whether this revision is stored. True if there is no reader, because then there is nothing to read."""
    if revision is None:
        return true().label("has_provenance")
    same = (col(ContentProvenance.sha256) == sha256) & (col(ContentProvenance.revision) == revision)
    return select(col(ContentProvenance.sha256)).where(same).exists().label("has_provenance")


def _verdict(row: Row[Any]) -> KnownVerdict:
    return KnownVerdict(row.verdict_id, row.judged_at, row.score, row.width, row.height)


def _listed(*names: str) -> Any:
    """Returns the refs of a page, numbered by `n` from 1. Each field is a parameter with a JSON array.

    Postgres reads arrays of texts in a third of the time that it needs for an array of objects.
    """
    arrays = ", ".join(f"json_array_elements_text(CAST(:{name}s AS json))" for name in names)
    fields = ", ".join(names)
    query = text(f"SELECT n, {fields} FROM ROWS FROM ({arrays}) WITH ORDINALITY AS listed ({fields}, n)")  # noqa: S608
    return query.columns(column("n", BigInteger), *(column(name, Text) for name in names)).cte("listed")


def refs_as_json(refs: Sequence[ImageRef]) -> dict[str, str]:
    """The parameters of `unchanged_query`. Each is a JSON array."""
    return etags_as_json(refs) | {"external_ids": _array(ImageRefs.of(refs).external_ids)}


def etags_as_json(refs: Sequence[ImageRef]) -> dict[str, str]:
    """The parameters of `changed_query`. Each is a JSON array."""
    columns = ImageRefs.of(refs)
    return {"uris": _array(columns.uris), "etags": _array(columns.etags)}


def _array(texts: list[str | None] | list[str]) -> str:
    return to_json(texts).decode()


def changed_query(rule: ReuseRule, fetched_before: datetime | None = None) -> Any:
    """Builds a query of the numbers, from 1, of the refs that have changed since this rule was last used on them.

    For all other refs, the rule would come to the same result as last time. With `fetched_before`, objects that were
    fetched later count as changed.
    """
    listed = _listed("uri", "etag")
    same = (col(StoredObject.uri) == listed.c.uri) & (col(StoredObject.etag) == listed.c.etag)
    if fetched_before is not None:
        same &= col(StoredObject.fetched_at) < fetched_before
    there = select(col(StoredObject.uri)).where(same, col(StoredObject.rule) == rule.fingerprint).exists()
    return select(listed.c.n).where(not_(there)).order_by(listed.c.n)


def lacking_query(fetched_before: datetime | None = None) -> Any:
    """Builds a query of the refs that are unchanged, and whose last finding lacks second opinions of detectors with
    which no worker has started since then.

    It returns their numbers, from 1, and what ReuseRule.fingerprint_without() returned for them. Its parameters are
    those of `changed_query`, and the possible fingerprints `lacking`. `fetched_before` is as there.
    """
    listed = _listed("uri", "etag")
    same = (col(StoredObject.uri) == listed.c.uri) & (col(StoredObject.etag) == listed.c.etag)
    if fetched_before is not None:
        same &= col(StoredObject.fetched_at) < fetched_before
    same &= col(StoredObject.rule) == func.any(bindparam("lacking", type_=ARRAY(BigInteger)))
    return select(listed.c.n, col(StoredObject.rule)).select_from(listed.join(StoredObject, same))


def unchanged_query(rule: ReuseRule, *, with_last: bool = False) -> Any:
    """Builds a query of the refs that are unchanged and have a verdict that the rule allows.

    Its columns are those of the ref, of its object and of its verdict. `n` is the number of the ref, from 1.
    `verdict_id_0` and `score_0` are the second opinion of the rule's first further detector, and so on.
    `remembered` is true if the object already names that verdict. `with_last` adds `said`, the verdict of the last
    finding at this uri; `said_by`, the id of its detector; `rule`, the fingerprint of the rule that led to it; and
    `fetched_at`, when the object was fetched.
    """
    listed = _listed("uri", "etag", "external_id")
    same = (col(StoredObject.uri) == listed.c.uri) & (col(StoredObject.etag) == listed.c.etag)
    newest = _newest(col(StoredObject.sha256), rule, preferred_id=col(StoredObject.verdict_id))
    remembered = (col(StoredObject.verdict_id) == newest.c.verdict_id).is_(True).label("remembered")
    columns: list[Any] = [listed, StoredObject.sha256, StoredObject.size, newest, remembered]
    if with_last:
        by = select(col(StoredVerdict.detector_id)).where(col(StoredVerdict.id) == col(StoredObject.verdict_id))
        said: Any = col(StoredObject.verdict).label("said")
        columns += [said, by.scalar_subquery().label("said_by"), StoredObject.rule, StoredObject.fetched_at]
    joined = listed.join(StoredObject, same).join(newest, true())
    for n, one in enumerate(rule.also):
        further = _newest(col(StoredObject.sha256), one, name=f"also_{n}")
        columns += [further.c.verdict_id.label(f"verdict_id_{n}"), further.c.score.label(f"score_{n}")]
        joined = joined.join(further, true())
    return select(*columns).select_from(joined).cte("known")


def _newest(sha256: Any, rule: ReuseRule, preferred_id: Any = None, name: str = "newest") -> Any:
    """Returns the newest verdict on a content that the rule allows, but prefers the verdict with `preferred_id`."""
    named: list[Any] = [col(StoredVerdict.id).label("verdict_id"), col(StoredVerdict.uri).label("judged_at")]
    columns = [*named, StoredVerdict.score, StoredVerdict.width, StoredVerdict.height]
    usable = select(*columns).where(col(StoredVerdict.sha256) == sha256, *_allowed(rule))
    newest = usable.order_by(col(StoredVerdict.id).desc()).limit(1)
    if preferred_id is None:
        return newest.lateral(name)
    # Reading the preferred verdict by its id is fast: verdicts of neighbouring objects are stored together. All
    # others are found by their content.
    return union_all(usable.where(col(StoredVerdict.id) == preferred_id), newest).limit(1).lateral(name)


def _allowed(rule: ReuseRule) -> tuple[ColumnElement[bool], ...]:
    """The conditions of the rule on a row of `verdicts`. A new condition goes here."""
    policy = rule.policy
    conditions = [
        col(StoredVerdict.detector_id) == rule.detector_id,
        col(StoredVerdict.explain).in_(_EXPLAINS_AS_MUCH[policy.explain]),
    ]
    whole = not_(col(StoredVerdict.cut_off))
    if policy.max_tokens is None:
        conditions.append(whole)
    else:
        # An answer that was cut off may be reused only if this policy would cut it off, too.
        conditions.append(whole | (col(StoredVerdict.completion_tokens) >= policy.max_tokens))
    if policy.explain is Explain.FLAGGED:
        # A "real" without reasons is not reused if this policy flags it: the scan then wants reasons.
        silent = and_(col(StoredVerdict.answer) == "real", col(StoredVerdict.explanation).is_(None))
        conditions.append(not_(and_(silent, col(StoredVerdict.score) >= policy.fake_from)))
    judged: ColumnElement[bool] = col(StoredVerdict.stage).is_distinct_from(Stage.FIRST)
    if not policy.judge:
        # A cascade clears only what is real by the scan's thresholds. By these, the judge may have to see the image.
        judged |= and_(col(StoredVerdict.score) <= policy.real_to, col(StoredVerdict.score) < policy.fake_from)
    conditions.append(judged)
    if rule.since is not None:
        conditions.append(col(StoredVerdict.created_at) >= rule.since)
    return tuple(conditions)
