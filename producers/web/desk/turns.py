"""Decides which contents wait for a person, as SQL that the queue and the claims share.

In this SQL, `c` is a row of `contents`, `:me` is the person's name and `:lead` says whether they are a lead. A content
waits if nobody has reviewed it, or if it is disputed. A disputed content has a `reviewed_at` but no `statement`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from producers.turns import ATTENTION, WAITS, blind, silent
from producers.web.access.people import Person
from worker.tables import DeskRole, Verdict


@dataclass(frozen=True)
class Filters:
    """Filters for contents. A content must match all that are given. `contents` are SHA-256s.

    `differ`: whether one detector calls the content fake and another one real.
    """

    scan_id: UUID | None = None
    bucket: str | None = None
    detector_id: int | None = None
    verdict: Verdict | None = None
    external_id: str | None = None
    contents: tuple[str, ...] | None = None
    differ: bool | None = None

    def sql(self) -> str:
        """Returns conditions on `c`, each with AND before it."""
        return "".join(f" AND {_FITS[name]}" for name in self._given())

    def values(self) -> Mapping[str, Any]:
        """Returns the parameters of `sql`."""
        given = self._given()
        return given | ({"contents": list(given["contents"])} if "contents" in given else {})

    def _given(self) -> dict[str, Any]:
        return {name: value for name in _FITS if (value := getattr(self, name)) is not None}


# An array from a subquery, because for a join the planner may read everything that waits.
_FITS = {
    "scan_id": "c.scan_id = CAST(:scan_id AS uuid)",
    "bucket": "bucket_of(c.uri) = :bucket",
    "detector_id": "c.detector_id = :detector_id",
    "verdict": "c.verdict = :verdict",
    "external_id": "c.sha256 = ANY(ARRAY(SELECT e.sha256 FROM content_external_ids e"
    " WHERE e.external_id = :external_id))",
    "contents": "c.sha256 = ANY(CAST(:contents AS text[]))",
    "differ": "c.differs = :differ",
}

ORDER = "c.score DESC NULLS LAST, c.first_at"
"""The most severe first, then the oldest."""


_NOT_MINE = silent("c.sha256", ":me")
BLIND = blind("c.sha256", ":me")
SECOND = f"{BLIND} AND c.statement IS NOT NULL"
"""A second look that this person may give."""
# Who may decide a dispute. Nobody judges their own statement as long as somebody else can judge it.
_JUDGES = (
    f":lead AND ({_NOT_MINE} OR NOT EXISTS (SELECT FROM reviewers o WHERE o.active AND o.role IN ('lead', 'admin')"
    f" AND o.name <> :me AND {silent('c.sha256', 'o.name')}))"
)
MINE = (
    f"({ATTENTION} AND (c.statement IS NULL AND (c.reviewed_at IS NULL OR {_JUDGES})"
    f" OR EXISTS (SELECT FROM second_looks l WHERE {SECOND})))"
)
"""Whether this person may decide a content, no matter who holds it."""


class Section(StrEnum):
    """A section of the queue. A person gets everything in one section before the next one.

    DIFFER: one detector calls the content fake, and another one real.
    """

    DISPUTED = "disputed"
    SECOND = "second"
    DIFFER = "differ"
    NEW = "new"

    def source(self, fits: str, limit: str) -> str:
        """Returns the part of a query after FROM that gives the first `limit` contents of this section.

        They also match `fits`: conditions on `c`, each with AND before it. There may be more than `limit` of them, in
        any order.
        """
        return _SOURCES[self].format(fits=fits, limit=limit)


_FLAGGED = ", ".join(f"('{one}')" for one in Verdict if one is not Verdict.REAL)
# OFFSET 0, because only few contents are disputed or wait for a second look. With a filter, the planner would rather
# read everything that waits.
_SOURCES = {
    Section.DISPUTED: f"""(
        SELECT * FROM contents c WHERE {WAITS} AND c.reviewed_at IS NOT NULL AND {_JUDGES}{{fits}} OFFSET 0
    ) c""",  # noqa: S608
    Section.SECOND: f"""(
        SELECT c.* FROM second_looks l CROSS JOIN LATERAL (
            SELECT * FROM contents c WHERE c.sha256 = l.sha256 AND {ATTENTION} OFFSET 0
        ) c WHERE {SECOND}{{fits}}
    ) c""",  # noqa: S608
    Section.DIFFER: f"""(
        SELECT * FROM contents c WHERE {WAITS} AND c.differs AND c.reviewed_at IS NULL{{fits}}
        ORDER BY {ORDER}, c.sha256 LIMIT {{limit}}
    ) c""",  # noqa: S608
    # In the indexes, the verdict comes before the score. So there is one query for each verdict, and a filter for one
    # verdict reads one range of an index.
    Section.NEW: f"""(VALUES {_FLAGGED}) flagged (verdict) CROSS JOIN LATERAL (
        SELECT * FROM contents c
        WHERE {WAITS} AND c.reviewed_at IS NULL AND NOT c.differs AND c.verdict = flagged.verdict{{fits}}
        ORDER BY {ORDER}, c.sha256 LIMIT {{limit}}
    ) c""",  # noqa: S608
}


def sections(person: Person) -> list[Section]:
    """Returns this person's sections, in order. Disputes are for leads."""
    return list(Section) if person.may(DeskRole.LEAD) else [one for one in Section if one is not Section.DISPUTED]


def values_of(person: Person) -> dict[str, Any]:
    """Returns the parameters of this SQL."""
    return {"me": person.name, "lead": person.may(DeskRole.LEAD)}


_IS_MINE = f"SELECT FROM contents c WHERE c.sha256 = :sha256 AND {MINE}"
_STATE = f"""
SELECT c.statement, (SELECT last_reviewer FROM review_status s WHERE s.sha256 = c.sha256) AS last_reviewer
FROM contents c WHERE c.sha256 = :sha256 AND {ATTENTION}
"""  # noqa: S608 - our own texts


def is_mine(session: Session, person: Person, sha256: str) -> bool:
    """Returns whether a content waits for this person, no matter who holds it."""
    return session.execute(text(_IS_MINE), {**values_of(person), "sha256": sha256}).first() is not None


def why_not(session: Session, person: Person, sha256: str) -> str:
    """Returns why a content does not wait for this person."""
    state = session.execute(text(_STATE), {"sha256": sha256}).first()
    if state is None:
        return "no detector calls this content fake or uncertain any more: there is nothing to decide"
    if state.statement is None:
        who = "another lead, who has said nothing about it," if person.may(DeskRole.LEAD) else "a lead"
        return f"the reviews of this content contradict each other: {who} decides it"
    by = "you" if state.last_reviewer == person.name else state.last_reviewer
    return f"{by} decided this content already"
