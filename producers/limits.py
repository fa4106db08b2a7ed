"""The limits at which a scan pauses itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """A circuit breaker: the scan pauses when the share of flagged or failed images is larger than this. None means no
    limit.
    """

    max_flagged_share: float | None = 0.4
    max_failed_share: float | None = 0.4
