"""Shares and the rate, computed from a scan's row; and what is asked of views: what waits, and what drifted."""

import math
from datetime import datetime
from typing import Any

from sqlalchemy import text

from worker.database.connection import Database, transaction
from worker.tables import Scan, ScanStatus

RATE_WINDOW_S = 60.0
"""Time constant of `scans.rate`, an exponentially weighted average."""


STALLED_AFTER_S = 3600.0
"""A scan in which no image got its outcome for so long stands still: no delay of a retry is longer than 23 minutes."""


def shares(scan: Scan) -> tuple[float, float]:
    """Returns two shares: flagged among images with a verdict, failed among images with a finding. 0 without any."""
    with_verdict = scan.judged + scan.reused
    decided = with_verdict + scan.failed
    return (scan.fake / with_verdict if with_verdict else 0.0, scan.failed / decided if decided else 0.0)


def rate(scan: Scan, now: datetime) -> float:
    """Images a second that workers decided lately: 0 when they stopped long ago."""
    if scan.counted_at is None:
        return 0.0
    window_s = RATE_WINDOW_S
    # A scan that is younger than the window has not filled it yet.
    filled = 1 - math.exp(-max((scan.counted_at - scan.created_at).total_seconds(), 1.0) / window_s)
    return scan.rate * math.exp(-max((now - scan.counted_at).total_seconds(), 0.0) / window_s) / filled


def stalled_s(scan: Scan, now: datetime) -> float | None:
    """Seconds since an image of a scan got its outcome, when that is over STALLED_AFTER_S. None for a scan that moves.

    A paused scan, or one that has ended, is not meant to move.
    """
    if scan.status not in (ScanStatus.LISTING, ScanStatus.REPAIRING, ScanStatus.RUNNING):
        return None
    still_s = (now - (scan.counted_at or scan.created_at)).total_seconds()
    return still_s if still_s > STALLED_AFTER_S else None


def review_backlog(database: Database, *, timeout_s: int = 5) -> int:
    """How many contents wait for a person's review.

    Raises DatabaseUnavailableError, also when counting takes too long, and SQLAlchemy's error when the database has no
    view `review_queue`.
    """
    return int(_asked(database, "SELECT count(*) FROM review_queue", timeout_s)[0][0])


def drift_alarms(database: Database, *, timeout_s: int = 20) -> int:
    """For how many detectors and buckets `drift` has the alarm yesterday. Raises as `review_backlog` does."""
    query = "SELECT count(*) FROM drift WHERE alarm AND day = date_trunc('day', now(), 'UTC') - interval '24 hours'"
    return int(_asked(database, query, timeout_s)[0][0])


def queues(database: Database, *, timeout_s: int = 5) -> dict[str, tuple[int, float, float]]:
    """What waits in each queue that is not empty: the view `queue_age`. Raises as `review_backlog` does.

    Images without an outcome; seconds since the oldest of their scans started; seconds since any of them moved.
    """
    rows = _asked(database, "SELECT queue, images, oldest_s, still_s FROM queue_age", timeout_s)
    return {queue: (int(images), oldest_s, still_s) for queue, images, oldest_s, still_s in rows}


def _asked(database: Database, query: str, timeout_s: int) -> list[Any]:
    with transaction(database) as session:
        session.execute(text(f"SET LOCAL statement_timeout = '{timeout_s}s'"))
        return list(session.execute(text(query)).all())
