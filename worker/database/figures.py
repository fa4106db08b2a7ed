"""Shares and the rate, computed from a scan's row."""

import math
from datetime import datetime

from worker.tables import Scan

RATE_WINDOW_S = 60.0
"""Time constant of `scans.rate`, an exponentially weighted average."""


def shares(scan: Scan) -> tuple[float, float]:
    """Returns two shares: flagged among images with a verdict, failed among images with an outcome. 0 without any."""
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
