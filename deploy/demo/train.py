"""Trains the demo detector from random weights with transformers' Trainer, and writes its checkpoint.

    python deploy/demo/draw.py build/detector/train --count 8000 --seed 1
    python deploy/demo/train.py build/detector/train deploy/demo/detector

Three stages, because two cores are slow and a LLaVA's tower is never taught by its language model alone:
1. the tower learns to tell the artefact families apart (LLaVA's tower is pretrained too), first on small crops;
2. projector and language model learn to answer from the tower's features, computed once, a random part at a time;
3. on request (--joint-steps), all of it end to end as LlavaForConditionalGeneration, at a low rate.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import LlavaForConditionalGeneration, Trainer, TrainingArguments, set_seed

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, without an installed package

from deploy.demo.checkpoint import IMAGE_SIZE, make_model, normalise, save_checkpoint
from deploy.demo.lessons import Answers, Bytes, Crops, ReaderLesson, TowerLesson, load_set
from deploy.demo.vocabulary import make_tokenizer

CHECKED = 320  # images at the end of the set that no stage trains on; only to watch the tower
THREADS = 2


def run_stage(
    name: str, lesson: nn.Module, data: Dataset[Any], *, steps: int, batch: int, rate: float, seed: int
) -> None:
    """Train ``lesson`` for ``steps`` batches: AdamW, cosine from ``rate`` after a short warm-up, in float32."""
    if not steps:
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=rate,
            lr_scheduler_type="cosine",
            warmup_steps=max(10, steps // 30),
            weight_decay=0.01,
            max_grad_norm=1.0,
            logging_steps=25,
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
        )
        Trainer(model=lesson, args=arguments, train_dataset=data).train()
    print(f"{name}: {steps} steps of {batch} in {time.monotonic() - started:.0f} s", flush=True)


@torch.inference_mode()
def tower_features(lesson: TowerLesson, pixels: Bytes, batch: int = 32) -> torch.Tensor:
    """The features of every image, (count, 576, hidden), float16."""
    lesson.eval()
    parts = [pixels[start : start + batch] for start in range(0, len(pixels), batch)]
    return torch.cat([lesson.features(normalise(part)).half() for part in parts])


@torch.inference_mode()
def report_tower(lesson: TowerLesson, records: list[dict[str, Any]], pixels: Bytes) -> None:
    """Print the share of whole images that the tower's classifier gets right."""
    classes = torch.tensor(Crops(records, pixels, IMAGE_SIZE).classes)
    logits = lesson.classifier(tower_features(lesson, pixels).float().mean(1))
    print(f"tower: {(logits.argmax(1) == classes).float().mean():.3f} of classes right", flush=True)


def teach(options: argparse.Namespace) -> None:
    """All stages; a checkpoint is written after the second and after the third."""
    torch.set_num_threads(THREADS)
    set_seed(options.seed)
    records, pixels = load_set(options.drawings)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, options.seed)
    taught, seen = records[:-CHECKED], pixels[:-CHECKED]

    tower = TowerLesson(model)
    for side, steps, batch in ((168, options.crop_steps, 32), (IMAGE_SIZE, options.whole_steps, 16)):
        crops = Crops(taught, seen, side)
        run_stage(f"tower at {side} px", tower, crops, steps=steps, batch=batch, rate=1e-3, seed=options.seed)
        report_tower(tower, records[-CHECKED:], pixels[-CHECKED:])

    started = time.monotonic()
    features = tower_features(tower, seen)
    print(f"features: {time.monotonic() - started:.0f} s", flush=True)
    reader = ReaderLesson(model)
    for visual, steps, batch in ((64, options.reader_steps, 32), (576, options.reader_whole_steps, 8)):
        answers = Answers(taught, tokenizer, features=features, visual_tokens=visual)
        rate = 2e-3 if visual == 64 else 5e-4
        run_stage(f"reader of {visual} tokens", reader, answers, steps=steps, batch=batch, rate=rate, seed=options.seed)
    publish(model, tokenizer, options.out)

    answers = Answers(taught, tokenizer, pixels=seen)
    run_stage("joint", model, answers, steps=options.joint_steps, batch=8, rate=1e-4, seed=options.seed)
    publish(model, tokenizer, options.out)


def publish(model: LlavaForConditionalGeneration, tokenizer: Any, folder: Path) -> None:
    """Write the checkpoint beside ``folder`` and move its files in, so that a reader never meets half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        save_checkpoint(model, tokenizer, Path(scratch))
        for file in Path(scratch).iterdir():
            file.replace(folder / file.name)
    print(f"checkpoint in {folder}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the demo detector on drawn images.")
    parser.add_argument("drawings", type=Path, help="a folder written by draw.py")
    parser.add_argument("out", type=Path, help="the checkpoint's folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crop-steps", type=int, default=500)
    parser.add_argument("--whole-steps", type=int, default=120)
    parser.add_argument("--reader-steps", type=int, default=350)
    parser.add_argument("--reader-whole-steps", type=int, default=60)
    parser.add_argument("--joint-steps", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    np.random.seed(options.seed)  # noqa: NPY002 - Trainer and datasets draw from the global generators
    started = time.monotonic()
    teach(options)
    print(f"all: {(time.monotonic() - started) / 60:.1f} min on {THREADS} threads", flush=True)


if __name__ == "__main__":
    main()
