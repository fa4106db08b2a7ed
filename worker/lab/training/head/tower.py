"""Loads a tower as a classifier without its last linear layer, so that features are exactly what the detector computes.

A class of transformers such as CLIPForImageClassification decides how tokens become features: their mean, the class
token, or both. Layers above the one that is read are left out.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, CLIPConfig, SiglipConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

from worker.detector.description import ClassifierDescription
from worker.detector.inspection.model import line
from worker.detector.pixels import Pixels
from worker.detector.quiet import quiet_transformers
from worker.detector.weights import refusal, weight_files
from worker.lab.training.head.base import FAKE, REAL

Features = NDArray[np.float32]

_WHOLE = {"clip_vision_model": CLIPConfig, "siglip_vision_model": SiglipConfig}
"""Towers that transformers has no classifier for, and the configuration of the model around them, which has one."""
_TOWER = re.compile(r"^(model\.)?vision_tower\.")
_STAGES = ("stage_names", "out_features", "out_indices", "_out_features", "_out_indices")
"""Fields of a configuration that name each layer."""
_KINDS = "give a CLIP, SigLIP, DINOv2 or ViT"
_REVISION = 1
"""Raise it whenever the same tower and image may give other features."""


class Tower:
    """A tower whose output are the features that a head of `description` will read. On a GPU if there is one."""

    def __init__(self, folder: Path, description: ClassifierDescription, layer: int | None) -> None:
        try:
            with quiet_transformers():
                self.model, self.layer = _load(folder, layer)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise refusal(f"the tower in {folder} cannot be loaded ({line(error)})", "fetch it again") from error
        dtype = getattr(torch, description.dtype)
        self.stored_dtype = self.model.dtype if dtype is torch.float32 else dtype
        if not isinstance(getattr(self.model, "classifier", None), nn.Linear):
            raise refusal(f"{type(self.model).__name__} has no linear layer at its end", _KINDS)
        self.width: int = self.model.classifier.in_features
        self.model.classifier = nn.Identity()
        self.checksum = _checksum(self.model)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(self._device, dtype).eval()
        self._pixels = Pixels(description)
        self._check(description.preprocessing.edge)
        self.key = features_key(self.checksum, description)
        """Identifies all that decides the features of a file."""

    def features(self, squares: Sequence[Image.Image]) -> Features:
        """Returns the features of prepared squares, of the shape (images, width)."""
        with torch.inference_mode():
            pixels = self._pixels.of(squares).to(self._device, self.model.dtype)
            found: Features = self.model(pixel_values=pixels).logits.float().cpu().numpy()
        return found

    def with_head(self, weights: NDArray[np.float64], bias: float) -> Any:
        """Returns the classifier: the tower as it was stored, and a head that gives 0 for real and x @ weights + bias
        for fake. `weights` have the shape (width,). The tower cannot be used after this.
        """
        model = self.model.to("cpu", self.stored_dtype)
        model.classifier = nn.Linear(self.width, 2)  # in float32: 16 bits would change the scores
        with torch.no_grad():
            model.classifier.weight.copy_(torch.from_numpy(np.stack([np.zeros_like(weights), weights])))
            model.classifier.bias.copy_(torch.tensor([0.0, bias]))
        model.config.id2label, model.config.label2id = {0: REAL, 1: FAKE}, {REAL: 0, FAKE: 1}
        return model

    def _check(self, edge: int) -> None:
        try:
            self.features([Image.new("RGB", (edge, edge), "grey")])
        except (ValueError, RuntimeError) as error:
            cause = f"the tower refuses images as they are prepared ({line(error)})"
            raise refusal(
                cause, "set [input] edge or preprocessor_config.json to the image_size of config.json"
            ) from error


def features_key(checksum: str, description: ClassifierDescription, release: str = transformers.__version__) -> str:
    """Returns what identifies the features of a tower with this checksum: 64 hexadecimal characters.

    A `release` of transformers may compute them in another way.
    """
    seen = {"preprocessing": description.preprocessing.revision, "input": description.input.model_dump(mode="json")}
    whole = [_REVISION, release, checksum, description.dtype, seen]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _load(folder: Path, layer: int | None) -> tuple[Any, int]:
    config = AutoConfig.from_pretrained(folder)
    vision = getattr(config, "vision_config", config)
    in_language_model = hasattr(config, "vision_feature_layer")
    read = layer if layer is not None else getattr(config, "vision_feature_layer", -1)
    depth = getattr(vision, "num_hidden_layers", None)
    if not isinstance(read, int) or not isinstance(depth, int):
        raise refusal(f"{folder} names no single layer of its tower", "set layer in the recipe")
    kept = read if read >= 0 else depth + 1 + read  # hidden state n is the output of layer n - 1
    if not 1 <= kept <= depth:
        raise refusal(
            f"the tower in {folder} has {depth} layers, and not the hidden state {read}",
            f"set layer in the recipe to a number from 1 to {depth}",
        )
    whole = _WHOLE.get(vision.model_type) if in_language_model or vision is config else None
    if in_language_model and whole is None:
        raise refusal(f"the tower in {folder} is a {vision.model_type}", "give a LLaVA with a CLIP or SigLIP tower")
    cut = vision.to_dict() | {"num_hidden_layers": kept}
    for name in _STAGES:
        cut.pop(name, None)
    own = type(vision).from_dict(cut)
    if whole is not None:
        own = whole(vision_config=own)
    elif vision is not config:
        config.vision_config = own
        own = config
    own.num_labels = 2
    weights = _tower_weights(folder, in_language_model=in_language_model) if whole is not None else None
    return _weighted(own, weights, folder), kept


def _weighted(config: Any, weights: dict[str, torch.Tensor] | None, folder: Path) -> Any:
    """Loads the classifier of `config`, with the given weights, or with those of the folder that it has a place for."""
    if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise refusal(f"{folder} is a {config.model_type}, of which transformers makes no classifier", _KINDS)
    kind = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
    given: dict[str, Any] = {"dtype": "auto"} if weights is None else {"state_dict": weights}
    if weights is not None:
        given["dtype"] = next(iter(weights.values())).dtype
    place = folder if weights is None else None
    model, found = kind.from_pretrained(
        place, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **given
    )
    missing = [name for name in sorted(found["missing_keys"]) if not name.startswith("classifier.")]
    if missing:
        raise refusal(f"the weights in {folder} lack {missing[0]} ({len(missing)} such tensors)", "fetch it again")
    return model


def _tower_weights(folder: Path, *, in_language_model: bool) -> dict[str, torch.Tensor]:
    """Reads only the tower of a language model, or a whole tower, under the names of the model around a tower."""
    weights = {}
    for shard in weight_files(folder):
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                own = _TOWER.sub("", name) if in_language_model else name
                if own != name or not in_language_model:
                    weights["vision_model." + own.removeprefix("vision_model.")] = file.get_tensor(name)
    if not weights:
        raise refusal(f"{folder} holds no weights of a vision tower", "fetch it again")
    return weights


def _checksum(model: Any) -> str:
    """Returns the SHA-256 of the tower's configuration and weights."""
    config = getattr(model.config, "vision_config", model.config).to_dict()
    kept = {name: value for name, value in config.items() if not name.startswith(("_", "transformers", "dtype"))}
    found = hashlib.sha256(json.dumps([type(model).__name__, kept], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.float().contiguous().numpy().tobytes())
    return found.hexdigest()
