"""A classifier on a CPU: what is gained if each core computes its own images, and how many of them together?

    python -m benchmarks.classifier_cores [--folder build/cascade] [--images 800] [--rounds 3]

The classifier is the demo's head on the tower of the demo detector. It judges the same drawings in turns, in batches
of 16:

1. alone: all cores share a batch, which is torch's way; or each core computes parts of one, two or four images, of
   which workers use two (worker/detector/cores.py);
2. as the first stage of a cascade, beside vLLM: all cores share a batch, or each computes its own parts.

Writes benchmarks/results/classifier_cores.json. It takes the head and the drawings of benchmarks.cascade, and makes
them first if they are not there.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import DEMO_DETECTOR
from benchmarks.cascade_parts import FAKE_SHARE, HELD_OUT_SEED, cascade_of, families_of, judged, squares, started
from benchmarks.scratch import write_result
from deploy.demo.head import learn_demo_head
from worker.cpus import usable_cpus
from worker.detector.classifier import ClassifierDetector, load_classifier
from worker.detector.cores import Cores
from worker.detector.description import ClassifierDescription
from worker.detector.detector import Detector, warm_up
from worker.detector.loading import load_description
from worker.detector.pixels import Pixels
from worker.messages import MAX_IMAGES
from worker.settings import Settings

UP_TO = 0.069
"""About the threshold of results/cascade.json."""


def in_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Any]:
    """Returns the images per second of all rounds, and the median gain of each contender over the first one."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            found[name].append(measure())
    shared = next(iter(found.values()))
    return {
        "images_per_s": {name: [round(one, 1) for one in rates] for name, rates in found.items()},
        "gain": {name: round(float(np.median(np.divide(rates, shared))), 2) for name, rates in found.items()},
    }


def alone(head: Path, description: ClassifierDescription, images: Sequence[Image.Image], rounds: int) -> dict[str, Any]:
    """Measures the model alone, with its input prepared."""
    loaded, pixels = load_classifier(description, head), Pixels(description).of(images)

    @torch.inference_mode()
    def model(some: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = loaded(pixel_values=some).logits
        return logits

    def rate(run: Callable[[torch.Tensor], torch.Tensor]) -> float:
        began = time.perf_counter()
        for batch in torch.split(pixels, MAX_IMAGES):
            run(batch)
        return len(pixels) / (time.perf_counter() - began)

    sizes = {f"{count} on each core": Cores(together=count) for count in (1, 2, 4)}
    try:
        own = {name: partial(rate, partial(cores.run, model)) for name, cores in sizes.items()}
        return in_turns({"shared": partial(rate, model), **own}, rounds)
    finally:
        for cores in sizes.values():
            cores.close()


def in_cascade(
    head: Path, description: ClassifierDescription, judge: Detector, images: Sequence[Image.Image], rounds: int
) -> dict[str, Any]:
    """Measures cascades with this first stage. With `cores=1`, it leaves all to torch."""
    shared, own = (ClassifierDetector(description, head, cores=count) for count in (1, None))
    with closing(shared), closing(own):
        for one in (shared, own):
            warm_up(one)
        cascades = {"shared": cascade_of(shared, judge, UP_TO), "own parts": cascade_of(own, judge, UP_TO)}
        return in_turns({name: partial(_rate, one, images) for name, one in cascades.items()}, rounds)


def _rate(detector: Detector, images: Sequence[Image.Image]) -> float:
    return judged(detector, images)[1]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures a classifier whose cores compute apart.")
    parser.add_argument("--folder", type=Path, default=Path("build/cascade"))
    parser.add_argument("--head-images", type=int, default=3000)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    head = learn_demo_head(options.folder / "head", count=options.head_images)
    images = squares(options.folder, HELD_OUT_SEED, families_of(options.images, FAKE_SHARE))
    description = load_description(Settings.model_validate({"detector": str(head)}))
    assert isinstance(description, ClassifierDescription)
    found: dict[str, Any] = {"cores": usable_cpus(), "images": len(images)}
    found["alone"] = alone(head, description, images[:320], options.rounds)
    with closing(started(str(DEMO_DETECTOR))) as judge:
        found["in_a_cascade"] = in_cascade(head, description, judge, images, options.rounds)
    write_result("classifier_cores", found)


if __name__ == "__main__":
    main()
