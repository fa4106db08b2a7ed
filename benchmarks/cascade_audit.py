"""Simulates the audited sample of a cascade: how soon the alarm notices a new family, and how often it is false.

It uses the rule of the view `cascade_alarms`, with which a test compares it. `python -m benchmarks.cascade_audit`
needs no database and writes benchmarks/results/cascade_audit.json. docs/cascades.md shows the figures.
"""

import json
import math
from pathlib import Path

import numpy as np

PROMISED = 0.005
AUDITED = 0.01
CLEARED = 0.7
FAKES = 0.02
STEP = 250
"""After so many images, the rule is asked again. The view is asked once a day, so add the images of a day at most."""
RESULTS = Path(__file__).parent / "results" / "cascade_audit.json"


def alarmed(audited: int, flagged: int, cleared: int, others: int, *, judge_flags: float = 0.0) -> bool:
    """The rule of the view: so many of the `audited` images were `flagged`, and so many `others` that the judge saw."""
    allowed = PROMISED / (1 - PROMISED) * others / cleared + judge_flags
    share = flagged / audited if audited else 0.0
    if flagged < 2 or share <= allowed:
        return False
    nats = share * math.log(share / allowed)
    if share < 1:
        nats += (1 - share) * math.log((1 - share) / (1 - allowed))
    return math.exp(-audited * nats) <= 0.05 / 365


def images_until_alarm(new: float, runs: int, seed: int, judge_flags: float = 0.0) -> list[int]:
    """Returns how many images were scanned in each run until the alarm.

    A share `new` of all images is of a family that the first stage clears and the judge flags. FAKES of the images are
    fakes that the judge sees, as before.
    """
    chance = np.random.default_rng(seed)
    images = np.arange(STEP, 500_001, STEP)
    cleared, others = (np.rint(images * share).astype(int) for share in (CLEARED + new, FAKES))
    found = []
    for _ in range(runs):
        known = np.cumsum(chance.binomial(round(STEP * CLEARED), AUDITED, len(images)))
        flagged = np.cumsum(chance.binomial(round(STEP * new), AUDITED, len(images)))
        counts = zip(images, known + flagged, flagged, cleared, others, strict=True)
        found.append(next(int(at) for at, *one in counts if alarmed(*map(int, one), judge_flags=judge_flags)))
    return found


def years_with_an_alarm(images: int, years: int, seed: int) -> int:
    """Returns how many years of nights, with so many images each, have a false alarm: the promise is just kept."""
    chance = np.random.default_rng(seed)
    fakes, nights, false = round(images * FAKES), 371, 0
    for _ in range(years):
        missed = chance.binomial(fakes, PROMISED, nights)
        others = fakes - missed
        cleared = np.full(nights, round(images * CLEARED))
        audited, flagged = chance.binomial(cleared - missed, AUDITED), chance.binomial(missed, AUDITED)
        weekly = [np.convolve(one, np.ones(7, int), "valid") for one in (audited + flagged, flagged, cleared, others)]
        false += any(alarmed(*map(int, week)) for week in zip(*weekly, strict=True))
    return false


def main() -> None:
    """Writes the figures."""
    found: dict[str, object] = {"promised": PROMISED, "audited": AUDITED, "cleared": CLEARED, "fakes": FAKES}
    until = []
    for new in (0.01, 0.02, 0.1):
        for judge_flags in (0.0, 0.0006):
            images = images_until_alarm(new, 1000, 18, judge_flags)
            quantiles = {f"{share:.0%}": round(float(np.quantile(images, share))) for share in (0.5, 0.9, 0.99)}
            until.append({"new": new, "judge_flags": judge_flags, "images": quantiles})
    found["until_alarm"] = until
    found["years_with_a_false_alarm"] = {
        str(images): f"{years_with_an_alarm(images, 200, 5)} of 200" for images in (5000, 20_000, 1_000_000)
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
