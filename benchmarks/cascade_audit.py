"""Simulates the audited sample of a cascade: how soon the alarm notices a new family, and how often it is false.

It uses the rule of the view `cascade_alarms`, with which a test compares it. `python -m benchmarks.cascade_audit`
needs no database and writes benchmarks/results/cascade_audit.json. docs/cascades.md shows the figures.
"""

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PROMISED = 0.005
AUDITED = 0.01
CLEARED = 0.7
FAKES = 0.02
MOST_DAYS = 200
"""Where a run ends without an alarm."""
RESULTS = Path(__file__).parent / "results" / "cascade_audit.json"


def evidence(audited: int, flagged: int, others: int, *, share: float = AUDITED, judge_flags: float = 0.0) -> float:
    """The evidence of the view against the promise. Its mean is at most 1 while the promise is kept (decision 0030).

    Of the `audited` images, the judge `flagged` some, and so many `others` that were not cleared. `share` is the share
    of audits.
    """
    odds = PROMISED * share / (1 - PROMISED)
    weighed = (
        flagged * math.log(m) + others * math.log1p(-odds * (m - 1)) - audited * math.log1p(judge_flags * (m - 1))
        for m in (1.4, 3, 10, 45)
        if odds * (m - 1) < 1
    )
    return sum(math.exp(max(-300, min(300, one))) for one in weighed) / 4


def alarmed(audited: int, flagged: int, others: int, *, judge_flags: float = 0.0) -> bool:
    """The rule of the view: see evidence()."""
    return 1 / max(evidence(audited, flagged, others, judge_flags=judge_flags), 1) <= 0.05 / 365


def images_until_alarm(new: float, per_day: int, runs: int, seed: int, judge_flags: float = 0.0) -> list[int]:
    """Returns how many images were scanned in each run from the first of a new family on until the alarm.

    From one day on, a share `new` of all images is of a family that the first stage clears and the judge flags. The
    seven days before had none. FAKES of the images are fakes that the judge sees, on all days. The rule is asked after
    each day, about the last seven.
    """
    chance = np.random.default_rng(seed)
    days = np.arange(-6, MOST_DAYS + 1)
    missed = np.where(days > 0, round(per_day * new), 0)
    cleared, others = round(per_day * CLEARED) + missed, np.full(len(days), round(per_day * FAKES))
    found = []
    for _ in range(runs):
        flagged = chance.binomial(missed, AUDITED)
        audited = flagged + chance.binomial(cleared - missed, AUDITED)
        weeks = zip(*(_weekly(one) for one in (audited, flagged, others)), strict=True)
        looks = (alarmed(*map(int, week), judge_flags=judge_flags) for week in weeks)
        found.append(per_day * next((day for day, alarm in enumerate(looks) if alarm), MOST_DAYS))
    return found


def _weekly(daily: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the sums of seven days."""
    return np.convolve(daily, np.ones(7, np.int64), "valid")


def years_with_an_alarm(images: int, years: int, seed: int) -> int:
    """Returns how many years of nights, with so many images each, have a false alarm: the promise is just kept."""
    chance = np.random.default_rng(seed)
    fakes, nights, false = round(images * FAKES), 371, 0
    for _ in range(years):
        missed = chance.binomial(fakes, PROMISED, nights)
        others = fakes - missed
        quiet = round(images * CLEARED) - missed
        audited, flagged = chance.binomial(quiet, AUDITED), chance.binomial(missed, AUDITED)
        weeks = zip(*(_weekly(one) for one in (audited + flagged, flagged, others)), strict=True)
        false += any(alarmed(*map(int, week)) for week in weeks)
    return false


def main() -> None:
    """Writes the figures."""
    found: dict[str, object] = {"promised": PROMISED, "audited": AUDITED, "cleared": CLEARED, "fakes": FAKES}
    until = []
    for new, judge_flags in product((0.01, 0.02, 0.1), (0.0, 0.0006)):
        for per_day in (3000, 10_000, 50_000):
            images = images_until_alarm(new, per_day, 1000, 18, judge_flags)
            quantiles = {f"{share:.0%}": round(float(np.quantile(images, share))) for share in (0.5, 0.9, 0.99)}
            until.append({"new": new, "judge_flags": judge_flags, "per_day": per_day, "images": quantiles})
    found["until_alarm"] = until
    found["years_with_a_false_alarm"] = {
        str(images): f"{years_with_an_alarm(images, 200, 5)} of 200" for images in (5000, 20_000, 1_000_000)
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
