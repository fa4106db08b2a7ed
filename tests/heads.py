"""Backbones that are small enough for a test, and images whose classes they tell apart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)

from tests.training import write_records
from worker.lab.datasets.reading import read_dataset
from worker.lab.datasets.records import Fault, Record
from worker.lab.training.head.base import HeadBase, base_of_backbone, base_of_detector
from worker.lab.training.head.train import HeadJob, train_head
from worker.lab.training.recipe import HeadRecipe
from worker.lab.training.squares import ImageSource
from worker.settings import Settings
from worker.storage import open_stores

EDGE = 56
_TOWER: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": EDGE, "patch_size": 14,
}  # fmt: skip
_WIDE = _TOWER | {"intermediate_size": 64}
_TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 100,
}  # fmt: skip
_SIDES = {"height": EDGE, "width": EDGE}
PROCESSORS: dict[str, dict[str, Any]] = {
    "clip": {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": EDGE}, "crop_size": _SIDES,
             "do_center_crop": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]},
    "siglip": {"image_processor_type": "SiglipImageProcessor", "size": _SIDES,
               "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
    "dinov2": {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 64}, "crop_size": _SIDES,
               "do_center_crop": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
}  # fmt: skip
PROCESSORS["vit"] = PROCESSORS["siglip"] | {"image_processor_type": "ViTImageProcessor"}
PROCESSORS["clip tower"] = PROCESSORS["clip"]
_COMMON = {"do_resize": True, "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
           "do_convert_rgb": True}  # fmt: skip


def write_processor(folder: Path, **fields: Any) -> Path:
    """Writes preprocessor_config.json, with these fields besides those of every backbone here."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(_COMMON | fields))
    return folder


def write_backbone(folder: Path, kind: str) -> Path:
    """Writes an untrained backbone of 3 layers for images of 56 x 56 pixels. `kind` is one of PROCESSORS."""
    torch.manual_seed(1)
    makers = {
        "clip": lambda: CLIPModel(CLIPConfig(vision_config=_WIDE, text_config=_TEXT, projection_dim=16)),
        "clip tower": lambda: CLIPVisionModel(CLIPVisionConfig(**_WIDE)),
        "siglip": lambda: SiglipModel(SiglipConfig(vision_config=_WIDE, text_config=_TEXT)),
        "dinov2": lambda: Dinov2Model(Dinov2Config(**_TOWER, mlp_ratio=2)),
        "vit": lambda: ViTModel(ViTConfig(**_WIDE)),
    }
    makers[kind]().save_pretrained(folder)
    return write_processor(folder, **PROCESSORS[kind])


def write_colours(folder: Path, count: int, *, grain: int = 0, shift: int = 90) -> Path:
    """Writes images with records, every second one real. Fakes are redder by `shift`, with noise of `grain` levels."""
    (folder / "images").mkdir(parents=True)
    chance = np.random.default_rng(9)
    records = []
    for number in range(count):
        fake = number % 2 == 0
        colour = chance.integers(60, 140, 3) + np.array([shift if fake else 0, 0, 0])
        noise = chance.normal(0, grain if fake else 0, (70, 90, 3))
        pixels = (colour + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        records.append({"image": f"images/{number}.png", "label": int(not fake)})
    return write_records(folder, records)


def backbone(folder: Path) -> HeadBase:
    """Returns the base for a head on a folder of transformers."""
    return base_of_backbone(Settings(model=str(folder)))


def tower_of(detector: Path) -> HeadBase:
    """Returns the base for a head on a detector."""
    return base_of_detector(Settings(detector=str(detector)))


def learn(base: HeadBase, dataset: Path, output: Path, recipe: HeadRecipe | None = None, **job: Any) -> list[Fault]:
    """Learns a head as `fakesweep train` does, without the evaluation. Returns the faults that were reported.

    The features are in `output`/../features.
    """
    found = list(read_dataset(dataset))
    records = [one for one in found if isinstance(one, Record)]
    faults = [one for one in found if isinstance(one, Fault)]
    source = ImageSource(open_stores(Settings()), str(dataset.parent), base.description.preprocessing)
    whole: dict[str, Any] = {"name": "a-head", "digest": "0" * 64, "hold_out": 0.0} | job
    own = HeadJob(recipe or HeadRecipe(), base, output=output, cache=output.parent / "features", **whole)
    train_head(own, records, source, faults.append)
    return faults
