"""Tiny image classifiers with seeded random weights, and their descriptions."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPForImageClassification,
    Dinov2Config,
    Dinov2ForImageClassification,
    PreTrainedModel,
    SiglipConfig,
    SiglipForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from worker.detector.classifier import ClassifierDetector
from worker.detector.description import ClassifierDescription
from worker.detector.pixels import Pixels
from worker.images import to_square

EDGE = 64
"""Of the models' input, in pixels. Their patches have 16."""
LABELS = {0: "generated", 1: "photograph"}
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_SEEN = {"image_size": EDGE, "patch_size": 16}
_NAMED = {"id2label": LABELS, "label2id": {name: number for number, name in LABELS.items()}}


def _vit(**given: Any) -> PreTrainedModel:
    return ViTForImageClassification(ViTConfig(**_SMALL, **_SEEN, **given))


def _clip(**given: Any) -> PreTrainedModel:
    return CLIPForImageClassification(CLIPConfig(text_config={**_SMALL}, vision_config={**_SMALL, **_SEEN}, **given))


def _siglip(**given: Any) -> PreTrainedModel:
    form = {"text_config": {**_SMALL}, "vision_config": {**_SMALL, **_SEEN}}
    return SiglipForImageClassification(SiglipConfig(**form, **given))


def _dinov2(**given: Any) -> PreTrainedModel:
    return Dinov2ForImageClassification(Dinov2Config(**_SMALL, **_SEEN, mlp_ratio=2, **given))


def _one_logit(**given: Any) -> PreTrainedModel:
    return _vit(**given | {"id2label": {0: "P(fake)"}, "label2id": {"P(fake)": 0}})


ARCHITECTURES: dict[str, Callable[..., PreTrainedModel]] = {
    "vit": _vit, "clip": _clip, "siglip": _siglip, "dinov2": _dinov2, "one_logit": _one_logit,
}  # fmt: skip


def save_classifier(folder: Path, architecture: str = "vit", *, seed: int = 0, spread: float = 2.0) -> Path:
    """Saves a model whose log-odds of drawn images have the median 0 and the standard deviation `spread`.

    Returns the folder.
    """
    torch.manual_seed(seed)
    model = ARCHITECTURES[architecture](**_NAMED).eval()
    pixels = Pixels(classifier_description(folder, architecture)).of([to_square(one, edge=EDGE) for one in drawn(24)])
    with torch.no_grad():
        for name, values in model.named_parameters():
            if values.dim() > 1:
                values.normal_(0, 0.3 if "embed" in name else 0.15)
        model.classifier.weight.mul_(spread / _log_odds(model, pixels).std())
        model.classifier.bias[0] -= _log_odds(model, pixels).median()
    model.save_pretrained(folder)
    return folder


def _log_odds(model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
    logits = model(pixel_values=pixels).logits
    return torch.sub(logits[:, 0], logits[:, 1:].sum(-1))


def classifier_description(folder: Path | str, architecture: str = "vit", **changes: Any) -> ClassifierDescription:
    """Returns a description of a saved model. It runs on the CPU."""
    labels = {"fake": (0,)} if architecture == "one_logit" else {"fake": ("generated",), "real": ("photograph",)}
    content = {
        "name": f"tiny-{architecture}", "model": str(folder), "revision": "1", "labels": labels,
        "preprocessing": {"edge": EDGE}, "device": "cpu", "batch_size": 4,
    }  # fmt: skip
    return ClassifierDescription.model_validate(content | changes)


def detector_toml(folder: Path, **changes: Any) -> Path:
    """Writes detector.toml beside a saved model. Returns the folder. `changes` replace lines: name = TOML."""
    lines = {
        "kind": '"classifier"', "name": '"tiny"', "model": '"."', "device": '"cpu"',
        "labels": '{ fake = ["generated"], real = ["photograph"] }', "preprocessing": f"{{ edge = {EDGE} }}",
    } | changes  # fmt: skip
    (folder / "detector.toml").write_text("".join(f"{name} = {value}\n" for name, value in lines.items() if value))
    return folder


class BrightModel:
    """A fake of transformers' classifier: its log-odds of a picture are its mean value, in units of its own.

    `calls` has the number of images of each call. `act` is called with the pixels first, and may raise.
    """

    dtype = torch.float32

    def __init__(self, act: Callable[[torch.Tensor], object] = lambda _pixels: None) -> None:
        self.config = SimpleNamespace(id2label=LABELS)
        self.calls: list[int] = []
        self._act = act

    def to(self, _device: str) -> "BrightModel":
        """Returns itself."""
        return self

    def __call__(self, pixel_values: torch.Tensor) -> Any:
        self.calls.append(len(pixel_values))
        self._act(pixel_values)
        mean = pixel_values.mean(dim=(1, 2, 3))
        return SimpleNamespace(logits=torch.stack([mean, torch.zeros_like(mean)], dim=1))


def bright_detector(model: BrightModel, *, cores: int = 1, **changes: Any) -> ClassifierDetector:
    """Returns a ClassifierDetector that runs the fake model. Its first call, at the start, is forgotten.

    With one core, a batch is one call, as on a GPU.
    """
    description = classifier_description("bright", **changes)
    detector = ClassifierDetector(description, Path("bright"), load=lambda _description, _folder: model, cores=cores)
    model.calls.clear()
    return detector


@functools.cache
def drawn(count: int, seed: int = 1) -> Sequence[Image.Image]:
    """Returns images of different sizes, edges from 70 to 400 pixels: soft colours, stripes and noise."""
    random = np.random.default_rng(seed)
    images = []
    for number in range(count):
        width, height = (int(edge) for edge in random.integers(70, 400, 2))
        soft = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((width, height))
        values = np.asarray(soft, np.int16) + random.normal(0, 10 * (number % 4), (height, width, 3))
        values[:: 3 + number % 5] += 40 * (number % 3)
        images.append(Image.fromarray(values.clip(0, 255).astype(np.uint8)))
    return tuple(images)
