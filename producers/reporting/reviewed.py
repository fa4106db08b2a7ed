"""Reads what people have said about a scan's flagged and uncertain contents, for its report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text

from producers.scans import find_scan
from worker.database import Database, transaction
from worker.tables import Verdict

_TOTALS = """
SELECT verdict, count(*) AS contents,
       count(*) FILTER (WHERE statement = 'fake') AS fake,
       count(*) FILTER (WHERE statement = 'real') AS real,
       count(*) FILTER (WHERE statement = 'cannot_tell') AS cannot_tell,
       count(*) FILTER (WHERE disputed) AS disputed,
       count(*) FILTER (WHERE statement IS NULL AND disputed IS NOT TRUE) AS open
FROM (
    SELECT DISTINCT f.verdict, f.sha256, s.statement, s.disputed
    FROM finding_details f LEFT JOIN review_status s ON s.sha256 = f.sha256
    WHERE f.partition = :partition AND f.scan_id = :scan_id AND f.verdict IN ('fake', 'uncertain')
) AS judged
GROUP BY verdict
"""
_STANDING = "SELECT * FROM review_status WHERE sha256 = ANY(:sha256s)"
_NONE = {"contents": 0, "fake": 0, "real": 0, "cannot_tell": 0, "disputed": 0, "open": 0}


@dataclass(frozen=True)
class Reviewed:
    """For `fake` and `uncertain`: how many different contents there are, what people decided, and the reviews of
    each content.
    """

    totals: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    contents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def reviewed(database: Database, scan_id: UUID, sha256s: Iterable[str]) -> Reviewed:
    """Returns the totals of a scan, and the rows of `review_status` for these contents. Raises NoSuchScanError."""
    with transaction(database) as session:
        scan = find_scan(session, scan_id)
        counted = session.execute(text(_TOTALS), {"partition": scan.partition, "scan_id": scan.id}).mappings().all()
        standing = session.execute(text(_STANDING), {"sha256s": list(sha256s)}).mappings().all()
    totals = {str(verdict): dict(_NONE) for verdict in (Verdict.FAKE, Verdict.UNCERTAIN)}
    totals |= {row["verdict"]: {name: row[name] for name in _NONE} for row in counted}
    contents = {row["sha256"]: dict(row) | {"reviewed_at": row["reviewed_at"].isoformat()} for row in standing}
    return Reviewed(totals, contents)
