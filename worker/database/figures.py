"""Computes shares and the rate from a scan's row, and reads from views what waits and what has drifted."""

import math
from datetime import datetime
from typing import Any

from sqlalchemy import text

from worker.database.connection import Database, transaction
from worker.tables import Scan, ScanStatus

RATE_WINDOW_S = 60.0
"""Time constant of `scans.rate`, an exponentially weighted average."""


STALLED_AFTER_S = 3600.0
"""A scan is stalled if no image gets an outcome for this long. No retry is delayed by more than 23 minutes."""


def shares(scan: Scan) -> tuple[float, float]:
    """Returns two shares: flagged among images with a verdict, failed among images with a finding. 0 for none."""
    with_verdict = scan.judged + scan.reused
    decided = with_verdict + scan.failed
    return (scan.fake / with_verdict if with_verdict else 0.0, scan.failed / decided if decided else 0.0)


def rate(scan: Scan, now: datetime) -> float:
    """Returns how many images per second workers have decided recently. It falls towards 0 after they have stopped."""
    if scan.counted_at is None:
        return 0.0
    window_s = RATE_WINDOW_S
    # A scan that is younger than the window has not filled it yet.
    filled = 1 - math.exp(-max((scan.counted_at - scan.created_at).total_seconds(), 1.0) / window_s)
    return scan.rate * math.exp(-max((now - scan.counted_at).total_seconds(), 0.0) / window_s) / filled


def stalled_s(scan: Scan, now: datetime) -> float | None:
    """Returns the seconds since an image of the scan got an outcome, if more than STALLED_AFTER_S. Otherwise None.

    A scan that is paused or has ended is not stalled.
    """
    if scan.status not in (ScanStatus.LISTING, ScanStatus.REPAIRING, ScanStatus.RUNNING):
        return None
    still_s = (now - (scan.counted_at or scan.created_at)).total_seconds()
    return still_s if still_s > STALLED_AFTER_S else None


def review_backlog(database: Database, *, timeout_s: int = 5) -> int:
    """Counts the contents that wait for a review.

    Raises DatabaseUnavailableError, also when counting takes longer than `timeout_s` seconds, and SQLAlchemy's error
    if the database has no view `review_queue`.
    """
    return int(_asked(database, "SELECT count(*) FROM review_queue", timeout_s)[0][0])


def drift_alarms(database: Database, *, timeout_s: int = 20) -> int:
    """Counts the detectors and buckets for which `drift` raised an alarm yesterday. Raises like `review_backlog`."""
    query = "SELECT count(*) FROM drift WHERE alarm AND day = date_trunc('day', now(), 'UTC') - interval '24 hours'"
    return int(_asked(database, query, timeout_s)[0][0])


def cascade_alarms(database: Database, *, timeout_s: int = 20) -> int:
    """Counts the cascades for which `cascade_alarms` raised an alarm yesterday. Raises like `review_backlog`."""
    yesterday = "date_trunc('day', now(), 'UTC') - interval '24 hours'"
    query = f"SELECT count(*) FROM cascade_alarms WHERE alarm AND day = {yesterday}"  # noqa: S608 - constants
    return int(_asked(database, query, timeout_s)[0][0])


def queues(database: Database, *, timeout_s: int = 5) -> dict[str, tuple[int, float, float]]:
    """Returns what waits in each queue that is not empty, from the view `queue_age`. Raises like `review_backlog`.

    Each tuple holds the number of images without an outcome, the seconds since the oldest of their scans started, and
    the seconds since any of these scans made progress.
    """
    rows = _asked(database, "SELECT queue, images, oldest_s, still_s FROM queue_age", timeout_s)
    return {queue: (int(images), oldest_s, still_s) for queue, images, oldest_s, still_s in rows}


def _asked(database: Database, query: str, timeout_s: int) -> list[Any]:
    with transaction(database) as session:
        session.execute(text(f"SET LOCAL statement_timeout = '{timeout_s}s'"))
        return list(session.execute(text(query)).all())
