"""What the benchmarks of cascades share: drawn squares, two real stages, and a clear threshold."""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.demo.answers import FAMILIES, REAL
from deploy.demo.draw import draw, encode
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

PROMISED = 0.005
FAKE_SHARE = 0.02
SCANS = 200
POLICY = Policy(explain=Explain.FLAGGED)
FIT_SEED, HELD_OUT_SEED, FAKES_SEED = 21, 22, 23
"""Seeds of sets. Those of the demo detector are 1 and 2, and that of the demo's head is 3."""

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


def _square(seed: int, family: str) -> bytes:
    return decode(encode(draw(seed, family), seed)[0]).tobytes()


def squares(folder: Path, seed: int, families: Sequence[str]) -> list[Image.Image]:
    """Returns the drawings of these families as a detector sees them. They are kept in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn_families = hashlib.sha256(" ".join(families).encode()).hexdigest()[:8]
    kept = folder / f"squares-{seed}-{len(families)}-{drawn_families}.npy"
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


def are_fake(families: Sequence[str]) -> Booleans:
    """Returns which images of these families are fakes, of the shape (images,)."""
    return np.array([family != REAL for family in families])


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


def started(detector: str, dtype: str | None = None) -> Detector:
    """Starts a detector with settings for a small machine. `dtype` replaces the number format of its description."""
    settings = Settings.model_validate(
        {"detector": detector, "dtype": dtype, "gpu_memory_utilization": 0.2, "max_num_seqs": 64}
    )
    found = start_detector(load_description(settings), settings)
    warm_up(found)
    return found


def threshold(first: Detector, images: Sequence[Image.Image], fake: Booleans) -> tuple[float, dict[str, Any]]:
    """Returns the clear threshold for these images of the set FIT, and what it keeps and clears there."""
    scores = scores_of(first, images)
    up_to = float(keeping(scores[fake], scores[~fake], PROMISED, "FIT")[-1])
    missed = int((scores[fake] <= up_to).sum())
    return up_to, {
        "images": len(images),
        "fakes": int(fake.sum()),
        "missed": missed,
        "missed_bound": round(upper_bound(missed, int(fake.sum())), 5),
        "real_cleared": round(float((scores[~fake] <= up_to).mean()), 4),
        "up_to": up_to,
    }


def cascade_of(first: Detector, judge: Detector, up_to: float, **clear: Any) -> CascadeDetector:
    """Puts the two together. `clear` are more fields of its rule, such as `audit_share`."""
    rule = ClearRule.model_validate({"up_to": up_to, "max_miss_rate": PROMISED} | clear)
    content = {"name": "demo-cascade", "first": first.description, "judge": judge.description, "clear": rule}
    return CascadeDetector(CascadeDescription.model_validate(content), first, judge)


def coverage(cleared: Booleans, flags: Booleans, audit_share: float) -> dict[str, Any]:
    """Simulates SCANS scans of the same images with other audited samples. `flags` says which ones the judge flags.

    Returns the true miss rate by the judge, and in how many scans the interval of the estimate holds it.
    """
    truth = (cleared & flags).sum() / max(flags.sum(), 1)
    covered, chance = 0, np.random.default_rng(18)
    for _ in range(SCANS):
        audited = cleared & (chance.random(len(cleared)) < audit_share)
        estimate = miss_rate(
            int(cleared.sum()), int(audited.sum()), int((audited & flags).sum()), int((~cleared & flags).sum())
        )
        covered += estimate is not None and estimate.low <= truth <= estimate.high
    return {
        "true_miss_rate_by_the_judge": round(float(truth), 5),
        "scans_whose_interval_holds_it": f"{covered} of {SCANS}",
    }
