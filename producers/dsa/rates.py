"""Counts the error rates of a year and its reversed decisions, for the report of Art. 15(1)(d) and (e) DSA."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from producers.dsa.decisions import Step, steps
from worker.database import Database, transaction
from worker.tables import ReviewKind, Statement

_DETECTORS = text("""
WITH judged AS (
    SELECT detector_id, verdict, statement FROM reviewed_verdicts
    WHERE first_reviewed_at >= :since AND first_reviewed_at < :until
), named AS (
    SELECT detector_id FROM judged UNION SELECT unnest(CAST(:appealed AS bigint[]))
), counted AS (
    SELECT detector_id, count(verdict) AS contents,
           count(*) FILTER (WHERE verdict = 'fake' AND statement = 'fake') AS fake_confirmed,
           count(*) FILTER (WHERE verdict = 'fake' AND statement = 'real') AS fake_overturned,
           count(*) FILTER (WHERE verdict = 'real' AND statement = 'real') AS real_confirmed,
           count(*) FILTER (WHERE verdict = 'real' AND statement = 'fake') AS real_overturned,
           count(*) FILTER (WHERE verdict = 'uncertain' AND statement = 'fake') AS uncertain_fake,
           count(*) FILTER (WHERE verdict = 'uncertain' AND statement = 'real') AS uncertain_real,
           count(*) FILTER (WHERE statement = 'cannot_tell') AS cannot_tell,
           count(verdict) FILTER (WHERE statement IS NULL) AS disputed
    FROM named LEFT JOIN judged USING (detector_id)
    GROUP BY detector_id
), summed AS (
    SELECT *, fake_confirmed + fake_overturned AS fakes,
           fake_confirmed + fake_overturned + real_confirmed + real_overturned AS decided,
           fake_overturned + real_overturned AS overturned
    FROM counted
)
SELECT s.*, d.name, d.fingerprint,
       wilson_bound(fake_overturned, fakes, -1) AS fake_low, wilson_bound(fake_overturned, fakes, 1) AS fake_high,
       wilson_bound(overturned, decided, -1) AS low, wilson_bound(overturned, decided, 1) AS high
FROM summed s LEFT JOIN detectors d ON d.id = s.detector_id
ORDER BY s.detector_id
""")
"""The counts of each detector. `appealed`: detectors with appeals, whose contents may be reviewed first before."""
_REVIEWS = text("""
SELECT r.id, r.sha256, r.kind, r.statement, r.reviewer, r.created_at, r.detector_id
FROM reviews r
WHERE r.sha256 IS NOT NULL AND r.statement IS NOT NULL
  AND NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id)
  AND r.sha256 IN (SELECT sha256 FROM reviews WHERE created_at >= :since AND created_at < :until)
ORDER BY r.sha256, r.created_at, r.id
""")
_BOUNDS = text("SELECT wilson_bound(:hits, :trials, -1) AS low, wilson_bound(:hits, :trials, 1) AS high")
_COUNTS = ("contents", "fake_confirmed", "fake_overturned", "real_confirmed", "real_overturned", "uncertain_fake",
           "uncertain_real", "cannot_tell", "disputed")  # fmt: skip

_MADE = "statements_of_reasons"

NOTE = (
    "People review what the detector flagged or was uncertain about, and what others dispute. The rates hold for these "
    "pictures. Intervals are Wilson's, at 95 %."
)
"""What a reader of the rates must know."""


@dataclass
class Appeals:
    """How appeals ended: for each outcome, how many there were for each detector.

    The outcome tells what happened to the decision. `disputes_settled`: nothing stood before, because people disagreed
    or could not tell. An appeal without a detector counts under 0.
    """

    decisions_upheld: Counter[int] = field(default_factory=Counter)
    decisions_reversed: Counter[int] = field(default_factory=Counter)
    disputes_settled: Counter[int] = field(default_factory=Counter)

    def add(self, step: Step) -> None:
        """Counts an appeal for the detector whose verdict it was about."""
        if step.before not in (Statement.FAKE, Statement.REAL):
            which = self.disputes_settled
        else:
            which = self.decisions_upheld if step.after == step.before else self.decisions_reversed
        which[step.review.detector_id or 0] += 1

    def detectors(self) -> list[int]:
        """Returns the ids of the detectors that have appeals."""
        return sorted({*self.decisions_upheld, *self.decisions_reversed, *self.disputes_settled} - {0})


def report(database: Database, year: int) -> dict[str, Any]:
    """Counts the decisions and the errors of a year (UTC), in the form that `fakesweep dsa report --json` prints."""
    period = {"since": datetime(year, 1, 1, tzinfo=UTC), "until": datetime(year + 1, 1, 1, tzinfo=UTC)}
    with transaction(database) as session:
        decided, appeals = _reviewed(session, period)
        found = session.execute(_DETECTORS, period | {"appealed": appeals.detectors()}).mappings().all()
        return {
            "year": year,
            "reviews": {str(statement): decided[statement] for statement in Statement},
            _MADE: decided[_MADE],
            "appeals": _appeals(session, appeals, None),
            "detectors": [_detector(session, dict(row), appeals) for row in found],
            "note": NOTE,
        }


def _reviewed(session: Session, period: Mapping[str, datetime]) -> tuple[Counter[str], Appeals]:
    """Counts the reviews of the period by what they state, and the statements of reasons; and its appeals."""
    decided: Counter[str] = Counter()
    appeals = Appeals()
    rows = session.execute(_REVIEWS, dict(period), execution_options={"yield_per": 1000})
    for _, reviews in groupby(rows, key=lambda row: str(row.sha256)):
        for step in steps(reviews):
            if period["since"] <= step.review.created_at < period["until"]:
                decided[step.review.statement] += 1
                decided[_MADE] += step.says_fake_now
                if step.review.kind == ReviewKind.APPEAL:
                    appeals.add(step)
    return decided, appeals


def _detector(session: Session, row: Mapping[str, Any], appeals: Appeals) -> dict[str, Any]:
    return {
        "detector": row["name"],
        "fingerprint": row["fingerprint"],
        **{name: row[name] for name in _COUNTS},
        "fake_overturn_rate": _rate(row["fake_overturned"], row["fakes"], row["fake_low"], row["fake_high"]),
        "overturn_rate": _rate(row["overturned"], row["decided"], row["low"], row["high"]),
        "appeals": _appeals(session, appeals, row["detector_id"]),
    }


def _appeals(session: Session, appeals: Appeals, detector: int | None) -> dict[str, Any]:
    """The appeals about the verdicts of one detector, or all appeals."""
    counted = {
        name: counter.total() if detector is None else counter[detector] for name, counter in vars(appeals).items()
    }
    hits = counted["decisions_reversed"]
    trials = counted["decisions_upheld"] + hits
    low, high = session.execute(_BOUNDS, {"hits": hits, "trials": trials}).one()
    return counted | {"reversal_rate": _rate(hits, trials, low, high)}


def _rate(hits: int, trials: int, low: float | None, high: float | None) -> dict[str, Any] | None:
    """A share with its interval. None if there is nothing to divide by."""
    if low is None or high is None:
        return None
    return {"rate": round(hits / trials, 4), "low": round(low, 4), "high": round(high, 4), "of": trials}
