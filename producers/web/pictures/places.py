"""Where a content lies, as far as we know."""

from sqlalchemy import text

from worker.database import Database, transaction

MOST = 5
"""Places at which a content is looked for, before its picture counts as not there."""

# A content may lie at a million places, so few are read. What `objects` says is newer, but it has no index by content.
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
    """Uris, other than this one, at which the content was found: first those where it was found last."""
    with transaction(database) as session:
        values = {"sha256": sha256, "uri": uri, "most": MOST - 1}
        return list(session.execute(_PLACES, values).scalars())
