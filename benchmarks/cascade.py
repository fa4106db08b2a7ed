"""What does a cascade of the demo detector save, and what does it miss? Real vLLM and the demo's head, on drawings.

    python -m benchmarks.cascade [--folder build/cascade] [--held-out 5000] [--rounds 3]

1. It learns the demo's head (deploy.demo.head) on the tower of the demo detector: the first stage.
2. It finds the clear threshold for --max-miss-rate on drawings of their own, as `fakesweep calibrate` does.
3. It judges held-out drawings, 2 % of them fakes, with the cascade and with the judge alone, in turns in one process,
   in messages of sixteen on as many threads as a worker has.
4. It counts which fakes were cleared, among them and among more fakes, and simulates 200 scans with other audited
   samples of the same images: how often does the interval hold the true miss rate?

Writes benchmarks/results/cascade.json, or cascade_bfloat16.json with `--dtype bfloat16`, with which the first stage
computes in 16 bits. Some processors are much faster then. The judge stays in float32. The drawings are kept in
--folder, so that a second run is shorter.
"""

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import DEMO_DETECTOR
from benchmarks.cascade_parts import (
    FAKE_SHARE,
    FAKES_SEED,
    FIT_SEED,
    HELD_OUT_SEED,
    PROMISED,
    Booleans,
    are_fake,
    cascade_of,
    coverage,
    families_of,
    judged,
    scores_of,
    squares,
    started,
    threshold,
)
from benchmarks.scratch import write_result
from deploy.demo.head import learn_demo_head
from worker.detector.cascade import CascadeDetector
from worker.detector.detector import Detector
from worker.detector.verdicts import Answer, Judgement
from worker.lab.evaluation.thresholds import upper_bound
from worker.tables import Stage


def rates(
    cascade: Detector, first: Detector, judge: Detector, images: Sequence[Image.Image], rounds: int
) -> dict[str, Any]:
    """Measures the cascade, the judge and the first stage in turns, on the same images."""
    found: dict[str, list[float]] = {"cascade": [], "judge": [], "first": []}
    for _ in range(rounds):
        for name, detector in (("cascade", cascade), ("judge", judge), ("first", first)):
            found[name].append(judged(detector, images)[1])
    gains = np.divide(found["cascade"], found["judge"])
    costs = np.divide(found["judge"], found["first"])
    return {f"{name}_images_per_s": [round(one, 1) for one in figures] for name, figures in found.items()} | {
        "gain": round(float(np.median(gains)), 2),
        "gains": [round(one, 2) for one in gains.tolist()],
        "first_stage_costs_of_the_judge": round(float(np.median(costs)), 3),
        "first_stage_costs_of_the_cascade": round(float(np.median(np.divide(found["cascade"], found["first"]))), 3),
        "images": len(images),
    }


def held_out(
    cascade: CascadeDetector, judge: Detector, images: Sequence[Image.Image], fake: Booleans
) -> dict[str, Any]:
    """Counts what the cascade misses on held-out images, and tries other audited samples of the same images."""
    answers, rate = judged(cascade, images)
    alone, _ = judged(judge, images)
    cleared = np.array([one.stage != Stage.JUDGE for one in answers])
    flags = np.array([one.score for one in alone]) >= cascade.description.thresholds.fake_from
    return {
        "images": len(images),
        "cleared": round(float(cleared.mean()), 4),
        **missed(cleared[fake]),
        "accuracy_of_the_cascade": _accuracy(answers, fake),
        "accuracy_of_the_judge": _accuracy(alone, fake),
        "images_per_s": round(rate, 1),
        **coverage(cleared, flags, cascade.description.clear.audit_share),
    }


def missed(cleared: Booleans) -> dict[str, Any]:
    """Returns how many of these fakes were cleared, and the exact one-sided bounds of that share at 95 %."""
    count, fakes = int(cleared.sum()), len(cleared)
    return {
        "fakes": fakes,
        "fakes_cleared": count,
        "share_of_fakes_cleared": round(count / fakes, 5),
        "lower_bound_of_that": round(1 - upper_bound(fakes - count, fakes), 5),
        "upper_bound_of_that": round(upper_bound(count, fakes), 5),
    }


def _accuracy(answers: Sequence[Judgement], fake: Booleans) -> float:
    return round(float((np.array([one.answer is Answer.FAKE for one in answers]) == fake).mean()), 4)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures a cascade of the demo detector.")
    parser.add_argument("--folder", type=Path, default=Path("build/cascade"))
    parser.add_argument("--head-images", type=int, default=3000)
    parser.add_argument("--fit-images", type=int, default=4000, help="half of them are fakes")
    parser.add_argument("--held-out", type=int, default=5000)
    parser.add_argument("--held-out-fakes", type=int, default=2000, help="more fakes, because 2 %% of 5,000 are few")
    parser.add_argument("--timed", type=int, default=2000, help="images in each round of the timing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the first stage")
    options = parser.parse_args()
    head = learn_demo_head(options.folder / "head", count=options.head_images)
    fit, held, more = (
        families_of(options.fit_images, 0.5), families_of(options.held_out, FAKE_SHARE),
        families_of(options.held_out_fakes, 1),
    )  # fmt: skip
    fit_images, images, fakes = (
        squares(options.folder, seed, families)
        for seed, families in ((FIT_SEED, fit), (HELD_OUT_SEED, held), (FAKES_SEED, more))
    )
    with closing(started(str(head), options.dtype)) as first, closing(started(str(DEMO_DETECTOR))) as judge:
        up_to, fitted = threshold(first, fit_images, are_fake(fit))
        cascade = cascade_of(first, judge, up_to)
        found = {
            "promised": PROMISED,
            "dtype_of_the_first_stage": options.dtype,
            "fit": fitted,
            "rates": rates(cascade, first, judge, images[: options.timed], options.rounds),
            "held_out": held_out(cascade, judge, images, are_fake(held)),
            "held_out_fakes": missed(scores_of(first, fakes) <= up_to),
        }
    write_result("cascade" if options.dtype == "float32" else f"cascade_{options.dtype}", found)


if __name__ == "__main__":
    main()
