"""Near duplicates of a content among those that a detector called fake or uncertain, by their PDQ hashes.

They are shown to people, who decide about each of them. A verdict is never copied by similarity.

The search is exact. Two hashes that differ in at most 31 of 256 bits have a word of 16 bits in which they differ in at
most one: 16 words with two different bits each would make 32. So 17 look-ups for each of the 16 words find all
candidates. The indexes hold the whole hash too, so that the others are sorted out without a look at the table.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from producers.turns import WAITS, blind
from worker.database import Database, transaction
from worker.tables.similarity import MIN_QUALITY, PDQ_WORDS, SEARCHED, word_of

MAX_DISTANCE = 31
"""Near duplicates differ in at most this many of 256 bits: the threshold of PDQ's authors."""

MOST = 1000
"""At most this many near duplicates of a content are looked at. In a larger group, only some of them are found and
counted.
"""

_FOUND = " UNION ALL ".join(
    f"(SELECT h.pdq FROM content_hashes h WHERE {SEARCHED}"  # noqa: S608 - constants of ours
    f" AND {word_of('h.pdq', number)} = ANY (pdq_near_words({word_of('a.pdq', number)}))"
    f" AND bit_count(a.pdq # h.pdq) <= {MAX_DISTANCE} LIMIT {MOST + 1})"
    for number in range(PDQ_WORDS)
)

# LIMIT and OFFSET keep the subqueries as they are: one content at a time, by an index.
_NEAR = f"""
FROM content_hashes a
CROSS JOIN LATERAL (SELECT DISTINCT pdq FROM ({_FOUND}) words) f
CROSS JOIN LATERAL (
    SELECT h.sha256
    FROM content_hashes h
    WHERE {SEARCHED} AND {word_of("h.pdq", 0)} = {word_of("f.pdq", 0)} AND h.pdq = f.pdq AND h.sha256 <> a.sha256
    LIMIT {MOST}
) h
"""  # noqa: S608

# A person who is to give the second word must not learn the first one. Without a person, nothing is withheld.
_BLIND = " OR ".join(
    f"EXISTS (SELECT FROM second_looks l WHERE {blind(content, 'CAST(:person AS text)')})"
    for content in ("a.sha256", "h.sha256")
)

_DUPLICATES = f"""
SELECT h.sha256, bit_count(a.pdq # f.pdq)::int AS distance, c.verdict, c.score,
       CASE WHEN {_BLIND} THEN NULL ELSE c.statement END AS statement,
       c.uri, c.scan_id, c.verdict_id, {WAITS} AS waits
{_NEAR}
CROSS JOIN LATERAL (
    SELECT * FROM contents c WHERE c.sha256 = h.sha256 ORDER BY c.superseded, c.last_at DESC LIMIT 1
) c
WHERE a.sha256 = :content AND a.quality >= {MIN_QUALITY}
ORDER BY distance, h.sha256
LIMIT :most
"""  # noqa: S608

_AMONG = f"""
SELECT h.sha256 FROM content_hashes a
CROSS JOIN (SELECT * FROM content_hashes WHERE sha256 = ANY (CAST(:others AS text[])) AND {SEARCHED}) h
WHERE a.sha256 = :content AND a.quality >= {MIN_QUALITY} AND bit_count(a.pdq # h.pdq) <= {MAX_DISTANCE}
  AND h.sha256 <> a.sha256
"""  # noqa: S608

_COUNTS = f"""
SELECT a.sha256, count(*) AS near
{_NEAR}
WHERE a.sha256 = ANY (:contents) AND a.quality >= {MIN_QUALITY}
  AND EXISTS (SELECT FROM contents c WHERE c.sha256 = h.sha256 AND {WAITS} OFFSET 0)
GROUP BY a.sha256
"""  # noqa: S608


@dataclass(frozen=True)
class Near:
    """A near duplicate and its state.

    `distance` is the number of bits, of 256, in which the hashes differ. `waits`: it is in the review queue.
    `statement` is what people decided about it. It is None if nobody has decided, or if it is withheld from this
    person. `verdict` and `score` are those of its newest finding. `uri`, `scan_id` and `verdict_id` are those of its
    newest finding that was not real.
    """

    sha256: str
    distance: int
    verdict: str
    score: float | None
    statement: str | None
    uri: str
    scan_id: UUID
    verdict_id: int
    waits: bool


def near_duplicates(database: Database, sha256: str, limit: int = 50, *, person: str | None = None) -> list[Near]:
    """Returns the near duplicates of a content, the nearest first. There are none if the content has no hash, or is
    nearly flat.

    With the name of a person, statements are withheld for contents to which this person is to give a second look. If
    the content in question is one of these, all statements are withheld.

    Raises DatabaseUnavailableError.
    """
    with transaction(database) as session:
        _by_indexes_alone(session)
        rows = session.execute(text(_DUPLICATES), {"content": sha256, "most": limit, "person": person}).mappings()
        return [Near(**row) for row in rows]


def near_among(session: Session, sha256: str, others: Collection[str]) -> set[str]:
    """Returns which of the others are near duplicates of a content."""
    if not others:
        return set()
    return set(session.execute(text(_AMONG), {"content": sha256, "others": list(others)}).scalars())


def near_counts(database: Database, sha256s: Collection[str]) -> dict[str, int]:
    """Returns how many near duplicates of each content wait in the review queue, without the content itself.

    Raises DatabaseUnavailableError.
    """
    with transaction(database) as session:
        _by_indexes_alone(session)
        found = {row.sha256: row.near for row in session.execute(text(_COUNTS), {"contents": list(sha256s)})}
    return {sha256: found.get(sha256, 0) for sha256 in sha256s}


def _by_indexes_alone(session: Session) -> None:
    """Keeps Postgres from reading all hashes, which it may prefer because it can only guess how many hashes have a
    word. JIT compilation would take longer than the query.
    """
    session.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off"))
