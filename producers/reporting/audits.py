"""Estimates from the audited sample how many of the images that the judge would flag a cascade has cleared."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

_COUNTS = ("cleared", "audited", "audited_flagged", "judged", "judged_flagged")
_OF_SCAN = text(f"""
SELECT detector_name AS detector, max_miss_rate, {", ".join(f"sum({name})::bigint AS {name}" for name in _COUNTS)}
FROM cascade_audits WHERE scan_id = :scan_id GROUP BY detector_id, detector_name, max_miss_rate ORDER BY detector_id
""")  # noqa: S608 - constants
_TAIL = 0.025
"""What an interval of 95 % confidence leaves out at each end."""


@dataclass(frozen=True)
class MissRate:
    """The estimated share of the images that the judge would flag which were cleared, with its 95 % interval."""

    share: float
    low: float
    high: float


def miss_rate(cleared: int, audited: int, audited_flagged: int, judged_flagged: int) -> MissRate | None:
    """Returns the estimate, or None if no image was audited or nothing was flagged.

    `cleared` images passed the first stage, and `audited` of them were a random sample, of which the judge flagged
    `audited_flagged`. `judged_flagged` other images were flagged. If the share q of the cleared images would be
    flagged, the miss rate is q * cleared / (q * cleared + judged_flagged). It rises with q, so the exact interval of q
    (Clopper and Pearson 1934) gives the interval of the miss rate.
    """
    if not audited or not (audited_flagged or judged_flagged):
        return None

    def rate(share: float) -> float:
        missed = share * cleared
        return missed / (missed + judged_flagged) if missed else 0.0

    low, high = _interval(audited_flagged, audited)
    return MissRate(rate(audited_flagged / audited), rate(low), rate(high))


def _interval(count: int, of: int) -> tuple[float, float]:
    """The exact 95 % interval of a share. Producers are installed without scipy, which tests compare this with."""
    low = 0.0 if not count else _root(lambda share: 1 - _at_most(count - 1, of, share) - _TAIL)
    high = 1.0 if count == of else _root(lambda share: _TAIL - _at_most(count, of, share))
    return low, high


def _root(rising: Callable[[float], float]) -> float:
    """Returns where a rising function of a share is 0, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _at_most(count: int, of: int, share: float) -> float:
    """Returns the probability of at most `count` hits in `of` trials of this probability, which is between 0 and 1.

    It adds the terms of the tail that does not hold the mode, from its largest term outwards until they vanish. So it
    needs about as many terms as some standard deviations, and not `count`.
    """
    if count < 0 or count >= of:
        return float(count >= of)
    below = count < (of + 1) * share
    one = count if below else count + 1
    log_term = (
        math.lgamma(of + 1) - math.lgamma(one + 1) - math.lgamma(of - one + 1)
        + one * math.log(share) + (of - one) * math.log1p(-share)
    )  # fmt: skip
    odds, total, term = share / (1 - share), 0.0, 1.0
    while term > total * 1e-17:
        total += term
        term *= one / ((of - one + 1) * odds) if below else (of - one) * odds / (one + 1)
        one += -1 if below else 1
    tail = math.exp(log_term) * total
    return tail if below else 1 - tail


def audits_of(session: Session, scan_id: UUID) -> list[dict[str, Any]]:
    """Returns the counts and the estimate of each cascade in a scan. Reused verdicts do not count a second time."""
    rows = session.execute(_OF_SCAN, {"scan_id": scan_id}).mappings()
    return [dict(row) | _estimated(dict(row)) for row in rows]


def _estimated(row: dict[str, Any]) -> dict[str, float | None]:
    found = miss_rate(*(row[name] for name in _COUNTS if name != "judged"))
    names = {"miss_rate": "share", "miss_rate_low": "low", "miss_rate_high": "high"}
    return {name: None if found is None else getattr(found, field) for name, field in names.items()}


def audit_line(row: dict[str, Any]) -> str:
    """Returns the figures of a cascade in a scan as a sentence for people."""
    said = (f"{row['detector']} cleared {row['cleared']} of {row['cleared'] + row['judged']} images. The judge checked "
            f"{row['audited']} of these and flagged {row['audited_flagged']}")  # fmt: skip
    if row["miss_rate"] is None:
        return f"{said}: the miss rate is not known"
    promised = "" if row["max_miss_rate"] is None else f", promised {row['max_miss_rate']:.2%}"
    return (f"{said}: miss rate {row['miss_rate']:.2%} (95 %: {row['miss_rate_low']:.2%} to "
            f"{row['miss_rate_high']:.2%}{promised})")  # fmt: skip
