"""Trainings that are small enough for a test: an untrained demo detector and a few drawn images."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from deploy.demo.checkpoint import make_model, save_checkpoint
from deploy.demo.draw import draw_record
from deploy.demo.vocabulary import make_tokenizer
from tests.processes import ROOT
from worker.detector.description import VlmDescription, vlm_only
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.lab.datasets.digest import digest
from worker.lab.datasets.reading import read_dataset
from worker.lab.datasets.records import Fault, Record
from worker.lab.training.recipe import Recipe, Stage
from worker.lab.training.squares import ImageSource
from worker.lab.training.train import Job, train
from worker.settings import Settings
from worker.storage import open_stores

ENVIRONMENT = {
    "FAKESWEEP_ENGINE": "transformers",  # of the evaluation at the end
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",  # with such small models, several threads only wait for each other
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": str(ROOT),
}


def write_base(folder: Path) -> Path:
    """Writes an untrained demo detector. Returns its folder."""
    tokenizer = make_tokenizer()
    save_checkpoint(make_model(tokenizer, 0), tokenizer, folder)
    return folder


def write_images(folder: Path, count: int, *, seed: int = 77) -> Path:
    """Writes drawn images, half of them real, with records. Returns the path of the records."""
    (folder / "images").mkdir(parents=True)
    return write_records(folder, [draw_record(number, seed=seed, folder=folder) for number in range(count)])


def write_records(folder: Path, records: list[dict[str, Any]]) -> Path:
    """Writes records.json, with one record per line."""
    path = folder / "records.json"
    path.write_text("[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n", encoding="utf-8")
    return path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Returns the weights of a checkpoint, by their names in the file."""
    return dict(load_file(folder / "model.safetensors"))


def described(folder: Path) -> tuple[VlmDescription, Path]:
    """Returns what a worker loads from a folder. Raises ConfigurationError if the worker would not start."""
    settings = Settings(detector=str(folder))
    return supply(vlm_only(load_description(settings), "a test"), settings)


def train_in_process(base: Path, dataset: Path, output: Path, *stages: Stage, **job: Any) -> list[Fault]:
    """Trains as `fakesweep train` does, without the evaluation. Returns the faults that were reported."""
    found = list(read_dataset(dataset))
    records = [one for one in found if isinstance(one, Record)]
    faults = [one for one in found if isinstance(one, Fault)]
    description, folder = described(base)
    recipe = Recipe(stages=stages, save_steps=job.pop("save_steps", 100))
    content = digest(dataset, [record.image for record in records])
    source = ImageSource(open_stores(Settings()), str(dataset.parent), description.preprocessing)
    whole: dict[str, Any] = {"name": "trained", "output": output, "digest": content, "hold_out": 0.0} | job
    train(Job(recipe, description, folder, **whole), records, source, faults.append)
    return faults


def command(base: Path, dataset: Path, output: Path, recipe: Path | str, *options: str) -> list[str]:
    """Returns the arguments of `python -m` that train with the command line."""
    return [
        "producers", "train", str(dataset), "--detector", str(base), "--recipe", str(recipe),
        "--output", str(output), *options,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """Returns the environment of a training process, without settings that a test has made for workers."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FAKESWEEP_")} | ENVIRONMENT
