"""Who has the page of a content open now, so that two people do not think about the same picture unawares.

A row of `looks` lasts for a while, and the page moves that on. A look gives nobody a right: that is what claims do.
"""

from collections.abc import Sequence

from sqlalchemy import text

from producers.web.access.people import Person
from worker.database import Database, transaction

MISSED = 2.5
"""A look ends when the page has not been heard of for so many of its intervals."""
MOST_NAMED = 5
"""So many people are named at most."""

_LOOK = """
WITH ended AS (
    DELETE FROM looks WHERE reviewer = :me AND sha256 <> :sha256 AND (:only OR until < now())
), mine AS (
    INSERT INTO looks (reviewer, sha256, until) VALUES (:me, :sha256, now() + make_interval(secs => :look_s))
    ON CONFLICT (reviewer, sha256) DO UPDATE SET until = excluded.until
)
SELECT reviewer FROM looks WHERE sha256 = :sha256 AND reviewer <> :me AND until > now() ORDER BY reviewer
"""


def look(database: Database, person: Person, sha256: str, every_s: float, *, opened: bool = False) -> Sequence[str]:
    """Notes that the person looks at the content, and says who else does.

    `every_s` is how often the page says so again. `opened`: the page was opened just now, so the person has left the
    one before; where that is still open in another tab, it says so itself.
    """
    given = {"me": person.name, "sha256": sha256, "only": opened, "look_s": every_s * MISSED}
    with transaction(database) as session:
        return session.execute(text(_LOOK), given).scalars().all()


def told(others: Sequence[str]) -> str:
    """The sentence about who else looks; empty when nobody does."""
    if not others:
        return ""
    *first, last = others[:MOST_NAMED] if len(others) <= MOST_NAMED else [*others[:MOST_NAMED], "others"]
    names = f"{', '.join(first)} and {last}" if first else last
    return f"{names} {'has' if len(others) == 1 else 'have'} this item open too."
