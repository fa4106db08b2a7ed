"""What is withheld from who is to give a second look: what others said of the content."""

from collections.abc import Collection

from sqlalchemy import text

from worker.database import Database, transaction

# As producers/web/desk/turns.py has it, also for contents that no detector calls fake or uncertain any more.
_WITHHELD = """
FROM second_looks l
WHERE l.first_reviewer <> :me
  AND NOT EXISTS (
      SELECT FROM reviews own WHERE own.sha256 = l.sha256 AND own.reviewer = :me AND own.statement IS NOT NULL
        AND NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = own.id)
  )
"""
NOT_WITHHELD = f"NOT EXISTS (SELECT {_WITHHELD} AND l.sha256 = reviews.sha256)"
"""A condition on `reviews`: what `:me` may read."""


def withheld(database: Database, reviewer: str, contents: Collection[str]) -> set[str]:
    """Those of these contents, by SHA-256, of which this reviewer must not learn yet what others said."""
    query = f"SELECT l.sha256 {_WITHHELD} AND l.sha256 = ANY(CAST(:contents AS text[]))"
    with transaction(database) as session:
        return set(session.execute(text(query), {"me": reviewer, "contents": list(contents)}).scalars())
