"""The figures of the overview, from the views of docs/dashboards.md. Each query has a limit of rows and of time."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Result, text
from sqlmodel import Session

from producers.scans import find_scan
from worker.database import Database, transaction
from worker.errors import NoSuchScanError
from worker.tables import Scan

Row = Mapping[str, Any]

DAYS = 30
PAGE = 50

SCANS = """
SELECT * FROM scan_progress
WHERE kind = 'scan' AND (created_at >= now() - interval '24 hours' OR status NOT IN ('done', 'cancelled'))
ORDER BY created_at DESC LIMIT 50
"""
SUBMISSIONS = """
SELECT coalesce(sum(findings), 0)::bigint AS images,
       coalesce(sum(findings) FILTER (WHERE verdict = 'fake'), 0)::bigint AS fake,
       coalesce(sum(findings) FILTER (WHERE verdict = 'uncertain'), 0)::bigint AS uncertain,
       coalesce(sum(findings) FILTER (WHERE outcome = 'failed'), 0)::bigint AS failed
FROM findings_by_hour WHERE kind = 'live' AND hour >= date_trunc('hour', now()) - interval '24 hours'
"""
FLAGGED_BY_DAY = """
SELECT day, detector_name, sum(contents)::bigint AS contents FROM flagged_by_day
WHERE day >= date_trunc('day', now(), 'UTC') - interval '29 days' GROUP BY 1, 2 ORDER BY 1, 2
"""
TODAY = "SELECT date_trunc('day', now(), 'UTC')"
BACKLOG = "SELECT contents, oldest_at, oldest_s FROM review_backlog"
QUEUES = "SELECT * FROM queue_age ORDER BY queue"
OVERTURNED = """
SELECT detector_name, overturned, decided, overturned::float / nullif(decided, 0) AS overturn_rate,
       wilson_bound(overturned, decided, -1) AS overturn_low, wilson_bound(overturned, decided, 1) AS overturn_high
FROM (SELECT detector_name, sum(fake_overturned + real_overturned)::bigint AS overturned,
             sum(fake_confirmed + fake_overturned + real_confirmed + real_overturned)::bigint AS decided
      FROM detector_quality WHERE week >= current_date - 28 GROUP BY detector_name) AS four_weeks
WHERE decided > 0 ORDER BY decided DESC, detector_name LIMIT 50
"""
FAILURES = """
SELECT reason, sum(findings)::bigint AS images, count(DISTINCT scan_id) AS scans, max(last_hour) AS last
FROM failures WHERE last_hour >= now() - interval '7 days' GROUP BY reason ORDER BY images DESC, reason LIMIT 50
"""
DRIFT = """
SELECT detector_name, bucket, images, measure, share, share_before, z FROM drift
WHERE day = date_trunc('day', now(), 'UTC') - interval '24 hours' AND alarm ORDER BY abs(z) DESC NULLS LAST LIMIT 50
"""
CASCADES = """
SELECT detector_name, audited, audited_flagged, miss_rate, max_miss_rate FROM cascade_alarms
WHERE day = date_trunc('day', now(), 'UTC') - interval '24 hours' AND alarm ORDER BY miss_rate DESC LIMIT 50
"""

QUERIES = {
    "scans": SCANS,
    "submissions": SUBMISSIONS,
    "flagged": FLAGGED_BY_DAY,
    "today": TODAY,
    "backlog": BACKLOG,
    "queues": QUEUES,
    "overturned": OVERTURNED,
    "failures": FAILURES,
    "drift": DRIFT,
    "cascades": CASCADES,
}
"""The queries, by what they answer. A benchmark runs all of them."""

_SCANS_BEFORE = """
SELECT * FROM scan_progress
WHERE kind = 'scan' AND (CAST(:before AS uuid) IS NULL
      OR (created_at, scan_id) < (SELECT created_at, id FROM scans WHERE id = CAST(:before AS uuid)))
ORDER BY created_at DESC, scan_id DESC LIMIT :page
"""
_FLAGGED_FINDINGS = """
SELECT uri, external_id, outcome, verdict, score, reason, detail, sha256, decided_at FROM flagged_findings
WHERE partition = :partition AND scan_id = :scan_id ORDER BY score DESC NULLS LAST LIMIT :page
"""
_ALL_FINDINGS = """
SELECT uri, external_id, outcome, verdict, score, reason, detail, sha256, decided_at FROM finding_details
WHERE partition = :partition AND scan_id = :scan_id AND uri > :after ORDER BY partition, scan_id, uri LIMIT :page
"""
_LOOKED_THROUGH = 100_000
_UNCERTAIN_FINDINGS = """
SELECT uri, external_id, outcome, verdict, score, reason, detail, sha256, decided_at FROM finding_details
WHERE partition = :partition AND scan_id = :scan_id AND uri = ANY (ARRAY(
    SELECT uri FROM (SELECT uri, verdict FROM findings WHERE partition = :partition AND scan_id = :scan_id
                     ORDER BY partition, scan_id, uri LIMIT :looked_through) AS first
    WHERE verdict = 'uncertain' LIMIT :page)) ORDER BY uri
"""
_FAILURES_OF_SCAN = """
SELECT reason, bucket, sum(findings)::bigint AS images, max(last_hour) AS last FROM failures
WHERE scan_id = :scan_id GROUP BY reason, bucket ORDER BY images DESC, reason, bucket LIMIT 50
"""


def _rows(found: Result[Any]) -> list[Row]:
    return [dict(row) for row in found.mappings()]


def of_the_night(database: Database) -> dict[str, Sequence[Row]]:
    """Returns the rows of each of QUERIES."""
    with transaction(database) as session:
        return {name: _rows(session.execute(text(query))) for name, query in QUERIES.items()}


def of_scan(database: Database, scan_id: UUID) -> Row:
    """Returns the scan's row of `scan_progress`. Raises NoSuchScanError."""
    with transaction(database) as session:
        _known(session, scan_id)
        query = text("SELECT * FROM scan_progress WHERE scan_id = :scan_id")
        return _rows(session.execute(query, {"scan_id": scan_id}))[0]


def _known(session: Session, scan_id: UUID) -> Scan:
    """The same as find_scan, with an error for pages: the other one names a command."""
    try:
        return find_scan(session, scan_id)
    except NoSuchScanError:
        raise NoSuchScanError("There is no scan at this address. The list of all scans is under Overview") from None


def scans_before(database: Database, before: UUID | None) -> Sequence[Row]:
    """Returns the newest scans, or those that were started before this one: rows of `scan_progress`.

    There are PAGE of them, and one more if the list continues. Raises NoSuchScanError.
    """
    with transaction(database) as session:
        if before is not None:
            _known(session, before)
        return _rows(session.execute(text(_SCANS_BEFORE), {"before": before, "page": PAGE + 1}))


def failures_of(database: Database, scan_id: UUID) -> Sequence[Row]:
    """Returns how many images of the scan failed, by reason and bucket, the most frequent first."""
    with transaction(database) as session:
        return _rows(session.execute(text(_FAILURES_OF_SCAN), {"scan_id": scan_id}))


def findings_of(database: Database, scan_id: UUID, *, after: str | None = None) -> Sequence[Row]:
    """Returns up to PAGE findings of the scan: the flagged ones with the highest scores, or all of them after a uri."""
    with transaction(database) as session:
        values = {"partition": _known(session, scan_id).partition, "scan_id": scan_id, "page": PAGE}
        if after is None:
            return _rows(session.execute(text(_FLAGGED_FINDINGS), values))
        return _rows(session.execute(text(_ALL_FINDINGS), values | {"after": after}))


def uncertain_of(database: Database, scan_id: UUID) -> Sequence[Row]:
    """Returns the first PAGE uncertain findings of the scan, by uri. No index contains them, so a limited number of
    findings is searched.
    """
    with transaction(database) as session:
        values = {"partition": _known(session, scan_id).partition, "scan_id": scan_id, "page": PAGE}
        return _rows(session.execute(text(_UNCERTAIN_FINDINGS), values | {"looked_through": _LOOKED_THROUGH}))
