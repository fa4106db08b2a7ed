"""When a scan is paused by itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The circuit breaker: a larger share of flagged or failed images pauses the scan. None is no limit."""

    max_flagged_share: float | None = 0.4
    max_failed_share: float | None = 0.4
