"""Lists what waits for a person, with filters and in pages."""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, Self
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from producers.turns import WAITS
from producers.web.access.people import Person
from producers.web.desk.turns import ORDER, Filters, Section, sections, values_of
from worker.database import Database, transaction
from worker.errors import UsageError
from worker.tables import Verdict

__all__ = [
    "MOST_COUNTED",
    "Choices",
    "DetectorChoice",
    "Filters",
    "Page",
    "ScanChoice",
    "Waiting",
    "choices",
    "how_many",
    "waiting",
]

MAX_CHOICES = 100
MOST_COUNTED = 1_000
"""At most this many contents are counted. Each takes a look at the table, and a million of them take a second."""


@dataclass(frozen=True)
class Waiting:
    """A content that waits. `differs`: one detector calls it fake, and another one real. `second_look`: another person
    decided it first, and a second look is wanted.

    For second looks, `reviews` is 0 and `disputed` is False, because what others said is withheld.
    """

    sha256: str
    detector_id: int
    detector_name: str
    verdict: Verdict
    score: float | None
    verdict_id: int
    uri: str
    scan_id: UUID
    scan_name: str | None
    first_at: datetime
    age_s: float
    places: int
    reviews: int
    disputed: bool
    differs: bool
    second_look: bool
    held_by: str | None
    held_until: datetime | None


@dataclass(frozen=True)
class Page:
    """A part of the queue, in the order in which contents are given out. `next` is where the next page begins, or
    None.
    """

    items: Sequence[Waiting]
    next: str | None


@dataclass(frozen=True)
class ScanChoice:
    """A scan with contents that wait."""

    scan_id: UUID
    name: str | None


@dataclass(frozen=True)
class DetectorChoice:
    """A detector with contents that wait."""

    detector_id: int
    name: str


@dataclass(frozen=True)
class Choices:
    """The values that filters can have, at most 100 each."""

    scans: Sequence[ScanChoice]
    buckets: Sequence[str]
    detectors: Sequence[DetectorChoice]


@dataclass(frozen=True)
class _Cursor:
    """The last content of a page, from which the next page continues."""

    section: Section
    score: float | None
    first_at: datetime
    sha256: str

    @classmethod
    def of(cls, section: Section, last: Waiting) -> Self:
        return cls(section, last.score, last.first_at, last.sha256)

    @classmethod
    def read(cls, opaque: str) -> Self:
        try:
            section, score, first_at, sha256 = json.loads(base64.urlsafe_b64decode(opaque.encode()))
            moment = datetime.fromisoformat(first_at)
            content = bytes.fromhex(sha256).hex()
            return cls(Section(section), None if score is None else float(score), moment.astimezone(UTC), content)
        except (ValueError, TypeError, ArithmeticError):
            raise UsageError("there is no such page of the queue: begin at the first one") from None

    def __str__(self) -> str:
        told = [self.section, self.score, self.first_at.isoformat(), self.sha256]
        return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


_ROWS = """
SELECT c.sha256, c.detector_id, (SELECT d.name FROM detectors d WHERE d.id = c.detector_id) AS detector_name,
       c.verdict, c.score, c.verdict_id, c.uri, c.scan_id,
       (SELECT s.name FROM scans s WHERE s.id = c.scan_id) AS scan_name, c.first_at,
       extract(epoch FROM now() - c.first_at)::float AS age_s, c.places,
       coalesce((SELECT s.reviews FROM review_status s WHERE s.sha256 = c.sha256), 0) AS reviews,
       c.reviewed_at IS NOT NULL AS disputed, c.differs, k.reviewer AS held_by, k.until AS held_until
FROM (SELECT c.* FROM {source} ORDER BY {order}, c.sha256 LIMIT :limit) c
LEFT JOIN claims k ON k.sha256 = c.sha256 AND k.until > now()
ORDER BY {order}, c.sha256
"""
# In three parts, so that each reads its own range of an index.
_REST = "(c.first_at, c.sha256) > (:first_at, :sha256) AND c.first_at >= :first_at"
_AFTER_SCORE = (f" AND c.score = :score AND {_REST}", " AND c.score < :score", " AND c.score IS NULL")
_AFTER_NO_SCORE = (f" AND c.score IS NULL AND {_REST}",)


def waiting(database: Database, person: Person, filters: Filters, *, after: str | None = None, limit: int = 50) -> Page:
    """Returns a page of what waits for this person. Raises UsageError for an `after` that no page gave."""
    cursor = _Cursor.read(after) if after else None
    with transaction(database) as session:
        found = list(islice(_from(session, person, filters, cursor, limit + 1), limit + 1))
    shown = found[:limit]
    more = len(found) > limit and bool(shown)
    return Page([one for _, one in shown], str(_Cursor.of(*shown[-1])) if more else None)


def _from(
    session: Session, person: Person, filters: Filters, cursor: _Cursor | None, limit: int
) -> Iterator[tuple[Section, Waiting]]:
    """Yields everything that waits from the cursor on, at most `limit` contents of each section."""
    given = {**values_of(person), **filters.values(), "limit": limit}
    those = sections(person)
    if cursor is not None:
        if cursor.section not in those:
            raise UsageError("this page of the queue is for a lead: begin at the first one")
        those = those[those.index(cursor.section) :]
    for section in those:
        parts: Sequence[str] = ("",)
        if cursor is not None and section is cursor.section:
            parts = _AFTER_NO_SCORE if cursor.score is None else _AFTER_SCORE
            given |= {"score": cursor.score, "first_at": cursor.first_at, "sha256": cursor.sha256}
        for part in parts:
            query = _ROWS.format(source=section.source(filters.sql() + part, ":limit"), order=ORDER)
            yield from ((section, _shown(section, row)) for row in session.execute(text(query), given).mappings())


def _shown(section: Section, row: Any) -> Waiting:
    second = section is Section.SECOND
    told = {**row, "verdict": Verdict(row["verdict"]), "second_look": second}
    return Waiting(**(told | {"reviews": 0, "disputed": False} if second else told))


def how_many(database: Database, person: Person, filters: Filters) -> int | None:
    """Returns how many contents wait for this person, counted as `waiting` lists them. None means more than
    MOST_COUNTED.
    """
    given, count = {**values_of(person), **filters.values(), "limit": MOST_COUNTED + 1}, 0
    with transaction(database) as session:
        # A bitmap scan would collect all matching rows before it counts the first one.
        session.execute(text("SET LOCAL enable_bitmapscan = off"))
        for section in sections(person):
            those = f"SELECT FROM {section.source(filters.sql(), ':limit')} LIMIT :limit"
            query = f"SELECT count(*) FROM ({those}) AS counted"  # noqa: S608 - constants of the desk
            count += int(session.execute(text(query), given).scalar_one())
    return count if count <= MOST_COUNTED else None


# Jumps from one value to the next in the filter's index, however many contents each value has.
_EACH = """
WITH RECURSIVE each AS (
    (SELECT {value} AS value FROM contents c WHERE {waits} ORDER BY 1 LIMIT 1)
    UNION ALL
    SELECT (SELECT {value} FROM contents c WHERE {waits} AND {value} > each.value ORDER BY 1 LIMIT 1)
    FROM each WHERE each.value IS NOT NULL
)
SELECT value{more} FROM each WHERE value IS NOT NULL LIMIT {limit}
"""
_VALUES = {
    "c.scan_id": ", (SELECT s.name FROM scans s WHERE s.id = value)",
    "bucket_of(c.uri)": "",
    "c.detector_id": ", (SELECT d.name FROM detectors d WHERE d.id = value)",
}


def choices(database: Database) -> Choices:
    """Returns the values that filters can have."""
    with transaction(database) as session:
        scans, buckets, detectors = (
            session.execute(text(_EACH.format(value=value, more=more, waits=WAITS, limit=MAX_CHOICES))).all()
            for value, more in _VALUES.items()
        )
    return Choices(
        [ScanChoice(*row) for row in scans],
        list(chain.from_iterable(buckets)),
        [DetectorChoice(*row) for row in detectors],
    )
