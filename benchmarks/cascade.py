"""What does a cascade of the demo detector save, and what does it miss? Real vLLM and the demo's head, on drawings.

    python -m benchmarks.cascade [--folder build/cascade] [--held-out 5000] [--rounds 3]

1. It learns the demo's head (deploy.demo.head) on the tower of the demo detector: the first stage.
2. It finds the clear threshold for --max-miss-rate on drawings of their own, as `fakesweep calibrate` does.
3. It judges held-out drawings, 2 % of them fakes, with the cascade and with the judge alone, in turns in one process,
   in messages of sixteen on as many threads as a worker has.
4. It counts which fakes were cleared, and simulates 200 scans with other audited samples of the same images: how often
   does the interval hold the true miss rate?

Writes benchmarks/results/cascade.json. The squares are kept in --folder, so that a second run is shorter.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import DEMO_DETECTOR
from benchmarks.cascade_audit import images_until_alarm
from benchmarks.scratch import write_result
from deploy.demo.answers import FAMILIES, REAL
from deploy.demo.draw import draw, encode
from deploy.demo.head import learn_demo_head
from producers.reporting.audits import miss_rate
from worker.cpus import default_threads
from worker.detector.cascade import CascadeDetector
from worker.detector.description import CascadeDescription, ClearRule
from worker.detector.detector import Detector, warm_up
from worker.detector.loading import load_description
from worker.detector.start import start_detector
from worker.detector.verdicts import Judgement
from worker.images import EDGE, decode
from worker.lab.evaluation.clearing import keeping
from worker.lab.evaluation.thresholds import upper_bound
from worker.messages import MAX_IMAGES, Explain, Policy
from worker.settings import Settings
from worker.tables import Stage

PROMISED = 0.005
FAKE_SHARE = 0.02
SCANS = 200
POLICY = Policy(explain=Explain.FLAGGED)
FIT_SEED, HELD_OUT_SEED, NEW_SEED = 21, 22, 23
"""Seeds of sets. Those of the demo detector are 1 and 2, and that of the demo's head is 3."""

Floats = np.ndarray[Any, np.dtype[np.float64]]


def _square(seed: int, family: str) -> bytes:
    return decode(encode(draw(seed, family), seed)[0]).tobytes()


def squares(folder: Path, seed: int, families: Sequence[str]) -> list[Image.Image]:
    """Returns the drawings of these families as a detector sees them. They are kept in the folder."""
    kept = folder / f"squares-{seed}-{len(families)}.npy"
    if not kept.exists():
        seeds = range(seed * 1_000_000, seed * 1_000_000 + len(families))
        with ProcessPoolExecutor() as processes:
            drawn = list(processes.map(_square, seeds, families, chunksize=16))
        pixels = np.frombuffer(b"".join(drawn), np.uint8).reshape(len(families), EDGE, EDGE, 3)
        np.save(kept, pixels)
    return [Image.fromarray(one) for one in np.load(kept, mmap_mode="r")]


def families_of(count: int, fake_share: float) -> list[str]:
    """Returns a family for each image. The fakes take turns among the families, and are spread evenly."""
    every = round(1 / fake_share)
    return [FAMILIES[number // every % len(FAMILIES)] if number % every == 0 else REAL for number in range(count)]


def judged(detector: Detector, images: Sequence[Image.Image]) -> tuple[list[Judgement], float]:
    """Returns the judgements, and images per second."""
    messages = [images[start : start + MAX_IMAGES] for start in range(0, len(images), MAX_IMAGES)]
    began = time.perf_counter()
    with ThreadPoolExecutor(default_threads()) as threads:
        answers = [one for some in threads.map(lambda some: detector.judge(some, POLICY), messages) for one in some]
    seconds = time.perf_counter() - began
    found = [one for one in answers if isinstance(one, Judgement)]
    if len(found) < len(answers):
        raise SystemExit("an image was refused")
    return found, len(images) / seconds


def scores_of(detector: Detector, images: Sequence[Image.Image]) -> Floats:
    """Returns the scores, of the shape (images,)."""
    return np.array([one.score for one in judged(detector, images)[0]], np.float64)


def started(detector: str) -> Detector:
    """Starts a detector with settings for a small machine."""
    settings = Settings(detector=detector, gpu_memory_utilization=0.2, max_num_seqs=64)
    found = start_detector(load_description(settings), settings)
    warm_up(found)
    return found


def threshold(first: Detector, folder: Path, images: int) -> tuple[float, dict[str, Any]]:
    """Returns the clear threshold, found on drawings of which half are fakes."""
    families = families_of(images, 0.5)
    fake = np.array([family != REAL for family in families])
    scores = scores_of(first, squares(folder, FIT_SEED, families))
    up_to = float(keeping(scores[fake], scores[~fake], PROMISED, "FIT")[-1])
    missed = int((scores[fake] <= up_to).sum())
    return up_to, {
        "images": images,
        "fakes": int(fake.sum()),
        "missed": missed,
        "missed_bound": round(upper_bound(missed, int(fake.sum())), 5),
        "real_cleared": round(float((scores[~fake] <= up_to).mean()), 4),
        "up_to": up_to,
    }


def cascade_of(first: Detector, judge: Detector, up_to: float) -> CascadeDetector:
    """Puts the two together, with the default audited sample."""
    rule = ClearRule(up_to=up_to, max_miss_rate=PROMISED)
    content = {"name": "demo-cascade", "first": first.description, "judge": judge.description, "clear": rule}
    return CascadeDetector(CascadeDescription.model_validate(content), first, judge)


def rates(
    cascade: Detector, first: Detector, judge: Detector, images: Sequence[Image.Image], rounds: int
) -> dict[str, Any]:
    """Measures the cascade, the judge and the first stage in turns, on the same images."""
    found: dict[str, list[float]] = {"cascade": [], "judge": [], "first": []}
    for _ in range(rounds):
        for name, detector in (("cascade", cascade), ("judge", judge), ("first", first)):
            found[name].append(judged(detector, images)[1])
    ratios = [ours / alone for ours, alone in zip(found["cascade"], found["judge"], strict=True)]
    return {f"{name}_images_per_s": [round(one, 1) for one in figures] for name, figures in found.items()} | {
        "gain": round(float(np.median(ratios)), 2),
        "gains": [round(one, 2) for one in ratios],
        "first_stage_costs_of_the_judge": round(
            float(np.median([j / f for j, f in zip(found["judge"], found["first"], strict=True)])), 3
        ),
        "images": len(images),
    }


def held_out(
    cascade: CascadeDetector, judge: Detector, images: Sequence[Image.Image], fake: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Counts what the cascade misses on held-out images, and tries other audited samples of the same images."""
    answers, rate = judged(cascade, images)
    cleared = np.array([one.stage != Stage.JUDGE for one in answers])
    flags = scores_of(judge, images) >= cascade.description.thresholds.fake_from
    missed, fakes = int((cleared & fake).sum()), int(fake.sum())
    truth = (cleared & flags).sum() / max(flags.sum(), 1)
    covered, chance = 0, np.random.default_rng(18)
    for _ in range(SCANS):
        audited = cleared & (chance.random(len(images)) < cascade.description.clear.audit_share)
        estimate = miss_rate(
            int(cleared.sum()), int(audited.sum()), int((audited & flags).sum()), int((~cleared & flags).sum())
        )
        covered += estimate is not None and estimate.low <= truth <= estimate.high
    return {
        "images": len(images),
        "fakes": fakes,
        "cleared": round(float(cleared.mean()), 4),
        "fakes_cleared": missed,
        "share_of_fakes_cleared": round(missed / fakes, 5),
        "lower_bound_of_that": round(1 - upper_bound(fakes - missed, fakes), 5),
        "right_with_cascade": _right(answers, fake),
        "images_per_s": round(rate, 1),
        "true_miss_rate_by_the_judge": round(float(truth), 5),
        "scans_whose_interval_holds_it": f"{covered} of {SCANS}",
    }


def _right(answers: Sequence[Judgement], fake: np.ndarray[Any, Any]) -> float:
    said = np.array([(one.score or 0) >= 0.5 for one in answers])
    return round(float((said == fake).mean()), 4)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures a cascade of the demo detector.")
    parser.add_argument("--folder", type=Path, default=Path("build/cascade"))
    parser.add_argument("--head-images", type=int, default=1000)
    parser.add_argument("--fit-images", type=int, default=1600, help="half of them are fakes")
    parser.add_argument("--held-out", type=int, default=5000)
    parser.add_argument("--timed", type=int, default=800, help="images in each round of the timing")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    head = learn_demo_head(options.folder / "head", count=options.head_images)
    families = families_of(options.held_out, FAKE_SHARE)
    images = squares(options.folder, HELD_OUT_SEED, families)
    fake = np.array([family != REAL for family in families])
    with closing(started(str(head))) as first, closing(started(str(DEMO_DETECTOR))) as judge:
        up_to, fitted = threshold(first, options.folder, options.fit_images)
        cascade = cascade_of(first, judge, up_to)
        found = {
            "promised": PROMISED,
            "fit": fitted,
            "rates": rates(cascade, first, judge, images[: options.timed], options.rounds),
            "held_out": held_out(cascade, judge, images, fake),
        }
    until = images_until_alarm(FAKE_SHARE, 10_000, 1000, 18)
    found["images_until_the_alarm_for_a_new_family"] = {
        "of_all_images": FAKE_SHARE,
        "per_day": 10_000,
        "half_of_the_runs": int(np.quantile(until, 0.5)),
        "99_percent_of_the_runs": int(np.quantile(until, 0.99)),
    }
    write_result("cascade", found)


if __name__ == "__main__":
    main()
