"""Finds places of a content, as far as we know them."""

from sqlalchemy import text

from worker.database import Database, transaction

MOST = 5
"""How many places are tried before the picture counts as not found."""

# A content may be at a million places, so only few are read. `objects` is newer, but has no index by content.
_PLACES = text("""
WITH places AS (
    (SELECT uri FROM content_places WHERE sha256 = :sha256 AND uri <> :uri LIMIT :most)
    UNION
    (SELECT uri FROM verdicts WHERE sha256 = :sha256 AND uri <> :uri LIMIT :most)
)
SELECT uri FROM places LEFT JOIN objects USING (uri)
ORDER BY objects.sha256 = :sha256 DESC NULLS LAST, uri LIMIT :most
""")


def other_places(database: Database, sha256: str, uri: str) -> list[str]:
    """Returns uris, other than this one, where the content was found. Those where it was found last come first."""
    with transaction(database) as session:
        values = {"sha256": sha256, "uri": uri, "most": MOST - 1}
        return list(session.execute(_PLACES, values).scalars())
