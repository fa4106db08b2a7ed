"""Shows who has the page of a content open, so that two people do not work on the same picture without knowing it.

A row of `looks` expires, and the open page keeps extending it. It gives nobody a right. For that, there are claims.
"""

from collections.abc import Sequence

from sqlalchemy import text

from producers.web.access.people import Person
from worker.database import Database, transaction

MISSED = 2.5
"""A look expires after this many intervals without a sign of the page."""
MOST_NAMED = 5
"""At most this many people are named."""

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
    """Stores that the person looks at the content, and returns who else does.

    `every_s` is how often the page calls this again, in seconds. `opened`: the page was just opened, so the person has
    left the one before. If that page is still open in another tab, its next call stores it again.
    """
    given = {"me": person.name, "sha256": sha256, "only": opened, "look_s": every_s * MISSED}
    with transaction(database) as session:
        return session.execute(text(_LOOK), given).scalars().all()


def told(others: Sequence[str]) -> str:
    """Returns the sentence about who else looks. It is empty if nobody does."""
    if not others:
        return ""
    *first, last = others[:MOST_NAMED] if len(others) <= MOST_NAMED else [*others[:MOST_NAMED], "others"]
    names = f"{', '.join(first)} and {last}" if first else last
    return f"{names} {'has' if len(others) == 1 else 'have'} this item open too."
