"""Withholds from a person who is to give a second look what others said about the content."""

from collections.abc import Collection

from sqlalchemy import text

from producers.turns import blind
from worker.database import Database, transaction

NOT_WITHHELD = f"NOT EXISTS (SELECT FROM second_looks l WHERE {blind('reviews.sha256', ':me')})"
"""A condition on `reviews`: the rows that `:me` may read."""
_WITHHELD = f"""
SELECT asked.sha256 FROM unnest(CAST(:contents AS text[])) AS asked (sha256), second_looks l
WHERE {blind("asked.sha256", ":me")}
"""  # noqa: S608 - our own text


def withheld(database: Database, reviewer: str, contents: Collection[str]) -> set[str]:
    """Returns those of these contents, by SHA-256, for which this reviewer must not yet learn what others said."""
    with transaction(database) as session:
        return set(session.execute(text(_WITHHELD), {"me": reviewer, "contents": list(contents)}).scalars())
