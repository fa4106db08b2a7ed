"""When a new family blinds a real first stage, how soon does the audited sample raise the alarm?

    python -m benchmarks.cascade_drift [--folder build/cascade]

1. It learns a head from drawings that lack one family of fakes, on an early layer of the demo detector's tower. The
   judge is the whole demo detector, on vLLM. It knows that family.
2. It finds the clear threshold on drawings without the family, and measures on held-out drawings which share of the
   cleared real images the judge flags.
3. Both stages judge drawings of the new family, of the known ones and of real images.
4. It draws nights of these judged images: how many images are scanned from the first night of the new family until the
   rule of `cascade_alarms` raises the alarm? The audited sample is the default 1 %.
5. One run goes through the worker's path into Postgres, and asks the view: the cascade judges new drawings, night by
   night. It has a larger share of audits and of the new family, so that it needs fewer drawings.

Writes benchmarks/results/cascade_drift.json. The drawings are kept in --folder.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import DEMO_DETECTOR
from benchmarks.cascade_audit import AUDITED, alarmed
from benchmarks.cascade_nights import nights_in_postgres
from benchmarks.cascade_parts import (
    FAKE_SHARE,
    FAKES_SEED,
    FIT_SEED,
    HELD_OUT_SEED,
    Booleans,
    are_fake,
    cascade_of,
    coverage,
    families_of,
    scores_of,
    squares,
    started,
    threshold,
)
from benchmarks.scratch import write_result
from deploy.demo.answers import FAMILIES, REAL
from deploy.demo.head import learn_demo_head
from worker.detector.detector import Detector
from worker.lab.evaluation.thresholds import upper_bound

NEW = "tiles"
"""The family that the first stage has never seen. Of the demo's families, it hides best from an early layer."""
LAYER = 3
KNOWN = [family for family in FAMILIES if family != NEW]
WEEK, MOST_NIGHTS, RUNS = 7, 100, 1000
MORE_AUDITS = 0.2
"""The share of audits in the run through Postgres."""


@dataclass(frozen=True)
class Pool:
    """Judged drawings of one kind: which ones the first stage clears, and which ones the judge flags."""

    cleared: Booleans
    flags: Booleans

    def figures(self) -> dict[str, Any]:
        """Returns the shares."""
        both = int((self.cleared & self.flags).sum())
        return {
            "images": len(self.cleared),
            "cleared": round(float(self.cleared.mean()), 4),
            "flagged_by_the_judge": round(float(self.flags.mean()), 4),
            "cleared_and_flagged": both,
        }


def pool(first: Detector, judge: Detector, images: Sequence[Image.Image], up_to: float) -> Pool:
    """Judges these images with each stage alone."""
    return Pool(scores_of(first, images) <= up_to, scores_of(judge, images) >= judge.description.thresholds.fake_from)


def night(chance: np.random.Generator, pools: Mapping[str, Pool], counts: Mapping[str, int]) -> list[int]:
    """Returns what a night of so many images of each kind adds: audited images, flagged ones of them, other flags."""
    total = np.zeros(3, np.int64)
    for kind, count in counts.items():
        drawn = chance.integers(len(pools[kind].cleared), size=count)
        cleared, flags = pools[kind].cleared[drawn], pools[kind].flags[drawn]
        audited = cleared & (chance.random(count) < AUDITED)
        total += [audited.sum(), (audited & flags).sum(), (~cleared & flags).sum()]
    return [int(one) for one in total]


def images_until_alarm(
    pools: Mapping[str, Pool], new: float, per_night: int, judge_flags: float
) -> dict[str, int | None]:
    """Returns quantiles of RUNS runs: how many images were scanned from the first night of the new family on.

    None: so many runs had no alarm within MOST_NIGHTS.
    """
    chance, fakes = np.random.default_rng(18), round(per_night * FAKE_SHARE)
    found: list[float] = []
    for _ in range(RUNS):
        week = [night(chance, pools, {REAL: per_night - fakes, "known": fakes}) for _ in range(WEEK)]
        added = round(per_night * new)
        nights, alarm = 0, False
        while not alarm and nights < MOST_NIGHTS:
            nights += 1
            week = [*week[1:], night(chance, pools, {REAL: per_night - fakes - added, "known": fakes, NEW: added})]
            audited, flagged, others = (sum(values) for values in zip(*week, strict=True))
            alarm = alarmed(audited, flagged, others, judge_flags=judge_flags)
        found.append(nights * per_night if alarm else np.inf)
    quantiles = {f"{share:.0%}": float(np.quantile(found, share, method="higher")) for share in (0.5, 0.9, 0.99)}
    return {name: round(images) if np.isfinite(images) else None for name, images in quantiles.items()}


def drawings_of(folder: Path) -> tuple[list[Image.Image], Booleans, dict[str, list[Image.Image]]]:
    """Returns drawings without the new family, to fit on, which of them are fakes, and held-out drawings by kind."""
    fit, held, more = families_of(4000, 0.5), families_of(5000, FAKE_SHARE), families_of(2000, 1)
    fit_images, held_images, fakes = (
        squares(folder, seed, families)
        for seed, families in ((FIT_SEED, fit), (HELD_OUT_SEED, held), (FAKES_SEED, more))
    )
    kept = [number for number, family in enumerate(fit) if family != NEW]
    return [fit_images[number] for number in kept], are_fake(fit)[kept], {
        REAL: [image for image, family in zip(held_images, held, strict=True) if family == REAL],
        "known": [image for image, family in zip(fakes, more, strict=True) if family != NEW],
        NEW: [image for image, family in zip(fakes, more, strict=True) if family == NEW],
    }  # fmt: skip


def blinded(first: Detector, judge: Detector, folder: Path) -> dict[str, Any]:
    """Returns all figures for a first stage that has not seen the new family."""
    fit_images, fake, drawings = drawings_of(folder)
    up_to, fitted = threshold(first, fit_images, fake)
    half = len(drawings[REAL]) // 2
    seen = pool(first, judge, drawings[REAL][:half], up_to)
    judge_flags = upper_bound(int((seen.cleared & seen.flags).sum()), int(seen.cleared.sum()))
    drawings[REAL] = drawings[REAL][half:]
    pools = {kind: pool(first, judge, images, up_to) for kind, images in drawings.items()}
    cascade = cascade_of(first, judge, up_to, audit_share=MORE_AUDITS, judge_flags=judge_flags)
    return {
        "new_family": NEW,
        "fit": fitted,
        "judge_flags": round(judge_flags, 6),
        "judged": {kind: one.figures() for kind, one in pools.items()},
        "images_until_the_alarm": [
            {"new_family": new, "judge_flags": round(allowed, 6), "per_night": per_night}
            | images_until_alarm(pools, new, per_night, allowed)
            for new, allowed, per_night in product((0.02, 0.1), (0.0, judge_flags), (3000, 10_000))
        ],
        "coverage": coverage_of_nights(pools),
        "through_postgres": nights_in_postgres(cascade, drawings[REAL], drawings["known"], drawings[NEW]),
    }


def coverage_of_nights(pools: Mapping[str, Pool]) -> dict[str, Any]:
    """How often does the interval hold the true miss rate of a scan of 20,000 images, 2 % of them of the new family?"""
    chance = np.random.default_rng(19)
    counts = {REAL: 19_200, "known": 400, NEW: 400}
    drawn = {kind: chance.integers(len(pools[kind].cleared), size=count) for kind, count in counts.items()}
    cleared, flags = (
        np.concatenate([getattr(pools[kind], name)[rows] for kind, rows in drawn.items()])
        for name in ("cleared", "flags")
    )
    return {"images": len(cleared), "audited": AUDITED, **coverage(cleared, flags, AUDITED)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Lets a new family blind a real first stage.")
    parser.add_argument("--folder", type=Path, default=Path("build/cascade"))
    parser.add_argument("--head-images", type=int, default=2000)
    options = parser.parse_args()
    head = learn_demo_head(
        options.folder / f"head-without-{NEW}", count=options.head_images, families=KNOWN, layer=LAYER
    )
    with closing(started(str(head))) as first, closing(started(str(DEMO_DETECTOR))) as judge:
        write_result("cascade_drift", blinded(first, judge, options.folder))


if __name__ == "__main__":
    main()
