"""What does a cascade gain at FakeVLM's true size? The weights are random, so the verdicts mean nothing.

    python -m benchmarks.cascade_geometry                              bfloat16 on one GPU
    python -m benchmarks.cascade_geometry --size tiny --images 128     to try the script on a CPU

The first stage is FakeVLM's own vision tower with a linear head, up to the layer that its projector reads. The judge is
the whole model. Each rate is measured alone, then the cascade with 50, 70 and 90 % of the images cleared, all in one
process, in messages of sixteen on 32 threads, as the worker sends them. Prints one JSON line. `gain` is the cascade's
rate divided by the judge's.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPForImageClassification

from benchmarks.true_geometry import MESSAGE, SIZES, write_model
from worker.detector.cascade import CascadeDetector
from worker.detector.classifier import ClassifierDetector
from worker.detector.description import CascadeDescription, ClassifierDescription, ClearRule, Thresholds, vlm_only
from worker.detector.detector import Detector, warm_up
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.detector.verdicts import Judgement
from worker.detector.vllm_engine import VllmEngine
from worker.detector.vlm import VlmDetector
from worker.messages import Explain, Policy
from worker.settings import Settings

CLEARED = (0.5, 0.7, 0.9)
DESCRIPTION = """kind = "classifier"
name = "tower"
model = "."
dtype = "{dtype}"
batch_size = {batch_size}
[labels]
fake = [0]
real = [1]
"""


def write_tower(folder: Path, judge: Path, *, dtype: str, batch_size: int) -> None:
    """Writes a classifier on a tower as large as that of the model in `judge`, with random weights."""
    config = json.loads((judge / "config.json").read_text(encoding="utf-8"))
    vision = config["vision_config"]
    read = config["vision_feature_layer"]  # hidden state n is the output of layer n - 1, and 0 is the embedding
    layers = read if read >= 0 else vision["num_hidden_layers"] + 1 + read
    tower = CLIPConfig(vision_config=vision | {"num_hidden_layers": layers}, num_labels=2)
    torch.manual_seed(0)
    CLIPForImageClassification(tower).to(getattr(torch, dtype)).save_pretrained(folder)
    text = DESCRIPTION.format(dtype=dtype, batch_size=batch_size)
    (folder / "detector.toml").write_text(text, encoding="utf-8")


def judged(detector: Detector, images: Sequence[Image.Image], tokens: int) -> tuple[list[Judgement], float]:
    """Returns the judgements, and images per second."""
    policy = Policy(explain=Explain.ALL, max_tokens=max(tokens, 8))
    messages = [images[start : start + MESSAGE] for start in range(0, len(images), MESSAGE)]
    began = time.perf_counter()
    with ThreadPoolExecutor(32) as threads:
        answers = [one for some in threads.map(lambda one: detector.judge(one, policy), messages) for one in some]
    seconds = time.perf_counter() - began
    if refused := [one for one in answers if not isinstance(one, Judgement)]:
        raise SystemExit(f"{len(refused)} images were refused: {refused[0]}")
    return [one for one in answers if isinstance(one, Judgement)], len(images) / seconds


def cascades(
    first: ClassifierDetector, judge: VlmDetector, images: Sequence[Image.Image], tokens: int
) -> dict[str, Any]:
    """Returns the rates of both stages, and of the cascade for each share that is cleared."""
    said, first_rate = judged(first, images, tokens)
    _, judge_rate = judged(judge, images, tokens)
    found: dict[str, Any] = {"tower_images_per_s": round(first_rate, 1), "judge_images_per_s": round(judge_rate, 1)}
    scores = [one.score for one in said if one.score is not None]
    if len(set(scores)) < len(scores) / 2:
        raise SystemExit("the random head gives the same score to most images: no share of them can be cleared")
    for share in CLEARED:
        description = CascadeDescription.model_validate(
            {
                "name": "cascade",
                "first": first.description,
                "judge": judge.description,
                "thresholds": Thresholds(fake_from=1.0, real_to=1.0),
                "clear": ClearRule(up_to=float(np.quantile(scores, share))),
            }
        )
        answers, rate = judged(CascadeDetector(description, first, judge), images, tokens)
        cleared = statistics.mean(one.stage == "first" for one in answers)
        found[f"cleared_{share:.0%}"] = {
            "cleared": round(cleared, 3),
            "images_per_s": round(rate, 1),
            "gain": round(rate / judge_rate, 2),
            "expected_gain": round(1 / (judge_rate / first_rate + 1 - cleared), 2),
        }
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures a cascade of FakeVLM's size, and both of its stages.")
    parser.add_argument("--size", choices=SIZES, default="true")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=8, help="length of the judge's answers")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--quantization", help="of the judge")
    parser.add_argument("--batch-size", type=int, default=32, help="of the tower")
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.85)
    options = parser.parse_args()
    noise = np.random.default_rng(0)
    images = [Image.fromarray(noise.integers(0, 255, (336, 336, 3), dtype=np.uint8)) for _ in range(options.images)]
    with tempfile.TemporaryDirectory() as name:
        judge_folder, tower_folder = Path(name, "judge"), Path(name, "tower")
        judge_folder.mkdir()
        write_model(judge_folder, options.size)
        write_tower(tower_folder, judge_folder, dtype=options.dtype, batch_size=options.batch_size)
        settings = Settings(
            detector=str(judge_folder),
            dtype=options.dtype,
            quantization=options.quantization,
            gpu_memory_utilization=options.gpu_memory_utilization,
            engine_stall_s=600,
        )
        description, folder = supply(vlm_only(load_description(settings), "this benchmark"), settings)
        tower = load_description(Settings(detector=str(tower_folder)))
        if not isinstance(tower, ClassifierDescription):
            raise SystemExit("the tower is no classifier")
        with (
            closing(ClassifierDetector(tower, tower_folder)) as first,
            closing(VlmDetector(VllmEngine(description, folder, settings), description)) as judge,
        ):
            warm_up(first)
            warm_up(judge)
            found = cascades(first, judge, images, options.tokens)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(json.dumps({"device": card, **vars(options)} | found), flush=True)


if __name__ == "__main__":
    main()
