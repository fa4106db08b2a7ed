"""Trains on labelled images by a recipe: decode, hold out, learn stage by stage, publish a folder for the worker.

Unfinished work is in OUTPUT/.training, and the next run continues it: decoded images, checkpoints and stages' models.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from transformers import AutoConfig, AutoProcessor, LlavaForConditionalGeneration

from worker.detector.description import VlmDescription
from worker.detector.verdicts import Reader
from worker.detector.weights import refusal
from worker.errors import ConfigurationError
from worker.lab.datasets.records import Fault, Record
from worker.lab.datasets.splits import Shares, Split, split_of
from worker.lab.training.checkpoint import publish, stored_dtype
from worker.lab.training.claim import HELD_OUT, RECORD, WORK, is_finished, one_writer, write_json
from worker.lab.training.lessons import check_stage
from worker.lab.training.recipe import Recipe, Stage
from worker.lab.training.squares import ImageSource, TrainingSet, prepare
from worker.lab.training.stages import Lessons, run_stage
from worker.lab.training.usable import agreeing, as_json, check_enough

_LONGEST_WAIT = timedelta(hours=12)
"""How long other processes wait for the one that decodes. PyTorch's ten minutes are too short for 100,000 images."""
_PACKAGES = ("torch", "transformers", "accelerate", "peft")


@dataclass(frozen=True)
class Job:
    """One training. `base` is the inspected folder of `description`'s model. `digest` is the dataset's SHA-256.

    `hold_out` is the share of contents that are not learned from. The SHA-256 of a content and the seed decide.
    `weights_are_spread`: each process holds only a part of the weights (FSDP, or DeepSpeed's ZeRO stage 3).
    """

    recipe: Recipe
    description: VlmDescription
    base: Path
    name: str
    output: Path
    digest: str
    seed: int = 0
    hold_out: float = 0.05
    weights_are_spread: bool = False

    @property
    def work(self) -> Path:
        """The folder of unfinished work."""
        return self.output / WORK

    def run(self) -> dict[str, Any]:
        """Returns what identifies this training."""
        return {
            "dataset": self.digest,
            "base": {"name": self.description.name, "revision": self.description.revision},
            "prompt": self.description.prompt_text,
            "recipe": self.recipe.model_dump(mode="json", exclude_none=True),
            "seed": self.seed,
            "hold_out": self.hold_out,
        }


def train(job: Job, records: Sequence[Record], source: ImageSource, tell: Callable[[Fault], None]) -> bool:
    """Trains. Returns False if the training had ended before. `tell` is called with unusable records, and may raise.

    Raises ConfigurationError if the model is not a LLaVA, if the recipe does not fit it or the records, if the output
    holds something else, or if no records are left to learn from.
    """
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=_LONGEST_WAIT)
    _check_llava(job.base)
    records = list(agreeing(records, Reader(job.description), tell))
    _check_recipe(job, records)
    with one_writer(job.output) if state.is_main_process else contextlib.nullcontext():
        with state.main_process_first():
            if is_finished(job.output, job.run(), state.num_processes):
                shutil.rmtree(job.work, ignore_errors=True)  # an earlier run ended between its record and this line
                return False
            key = json.dumps([job.digest, source.images, job.description.preprocessing.revision])
            data = prepare(records, source, job.work, hashlib.sha256(key.encode()).hexdigest(), tell)
        shares = Shares(train=1 - job.hold_out, validation=0, test=job.hold_out)
        learned, held_out = data.split(lambda content: split_of(content, shares, job.seed) is Split.TEST)
        check_enough(learned.records)
        previous, logs = job.base, {}
        for number, stage in enumerate(job.recipe.stages, start=1):
            previous, logs[stage.name] = _learned(job, stage, job.work / f"{number}-{stage.name}", previous, learned)
        if state.is_main_process:
            publish(previous, job.base, job.description, job.name, job.output)
            write_json(job.output / HELD_OUT, [as_json(one) for one in held_out.records])
            write_json(job.output / RECORD, job.run() | _circumstances(learned, held_out, logs))
            shutil.rmtree(job.work)
        state.wait_for_everyone()
    return True


def _learned(job: Job, stage: Stage, folder: Path, previous: Path, data: TrainingSet) -> tuple[Path, dict[str, Any]]:
    """Returns the folder of the model after this stage, and the record of the stage."""
    done, model_folder = folder / "stage.json", folder / "model"
    if not done.exists() or not model_folder.exists():
        # For weights that only adapters change, the stored 16 bits are enough. Weights that learn are always float32.
        as_stored = stage.lora is not None and PartialState().device.type == "cuda"
        dtype = stored_dtype(job.base) if as_stored else torch.float32
        model = LlavaForConditionalGeneration.from_pretrained(previous, dtype=dtype)
        lessons = Lessons(
            data, job.description, AutoProcessor.from_pretrained(job.base), job.seed, job.recipe.save_steps
        )
        shutil.rmtree(model_folder, ignore_errors=True)
        began = time.monotonic()
        with _full_disk_said():
            history = run_stage(model, stage, lessons, folder)
        if PartialState().is_main_process:
            loss = [[one["step"], round(one["loss"], 4)] for one in history if "loss" in one]
            write_json(done, {"seconds": round(time.monotonic() - began), "loss": loss})
        PartialState().wait_for_everyone()
    return model_folder, json.loads(done.read_text(encoding="utf-8"))


@contextlib.contextmanager
def _full_disk_said() -> Iterator[None]:
    """Turns the errors of safetensors and torch.save for a full disk into OSError."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if "No space left" in str(error) or "file write failed" in str(error):
            raise OSError(errno.ENOSPC, "no space for a checkpoint; free some and run the command again") from error
        raise


def _check_llava(base: Path) -> None:
    config = AutoConfig.from_pretrained(base)
    kinds = [config.model_type, getattr(getattr(config, "vision_config", None), "model_type", None)]
    if kinds != ["llava", "clip_vision_model"] or not isinstance(config.vision_feature_layer, int):
        raise refusal(
            f"{base} is a {kinds[0]}, and training is for LLaVA models with CLIP's tower", "give one such as FakeVLM"
        )


def _check_recipe(job: Job, records: Sequence[Record]) -> None:
    processor = AutoProcessor.from_pretrained(job.base)
    for stage in job.recipe.stages:
        check_stage(stage, records, processor, job.description)
        if job.weights_are_spread and (stage.lora or stage.classes):
            raise ConfigurationError(
                f"--recipe: stage {stage.name}: adapters and classes need processes that each hold all weights; "
                "launch with --multi_gpu or ZeRO stage 2"
            )


def _circumstances(learned: TrainingSet, held_out: TrainingSet, logs: dict[str, Any]) -> dict[str, Any]:
    on_gpu = PartialState().device.type == "cuda"
    return {
        "images": len(learned),
        "held_out_images": len(held_out),
        "processes": PartialState().num_processes,
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "stages": logs,
    }
