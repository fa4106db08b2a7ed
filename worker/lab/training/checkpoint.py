"""Writes a trained model as a folder that the worker can serve: FakeVLM's layout and key names, and a detector.toml.

transformers 5 saves a LLaVA's tower as ``vision_tower.embeddings…``. FakeVLM (transformers 4.45) and vLLM use
``vision_tower.vision_model.embeddings…``.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import tomlkit
import torch
from safetensors.torch import load_file, save_file

from worker.detector.calibration import Calibration
from worker.detector.description import FILE, DetectorDescription, Thresholds, VlmDescription

INDEX = "model.safetensors.index.json"
_COPIED = ("*.json", "*.model", "*.txt", "*.jinja")
_NOT_COPIED = {INDEX, "training.json"}


def old_name(name: str) -> str:
    """Returns FakeVLM's name for a weight that transformers 5 saved."""
    return re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", name)


def publish(saved: Path, base: Path, description: VlmDescription, name: str, output: Path) -> VlmDescription:
    """Turns `saved`, the output of save_pretrained, into `output`. Everything but the weights is copied from `base`.

    The weights are stored in the number format that the base's config.json names. Returns the new description.
    """
    output.mkdir(parents=True, exist_ok=True)
    for path in sorted(path for pattern in _COPIED for path in base.glob(pattern)):
        if path.name not in _NOT_COPIED:
            shutil.copyfile(path, output / path.name)
    checksums = convert_weights(saved, output, stored_dtype(base))
    own = description.model_copy(
        update={
            "name": name,
            "model": ".",
            "revision": None,
            "checksums": checksums,
            "calibration": Calibration(),  # calibration and thresholds were chosen for the base's scores
            "thresholds": Thresholds(),
        }
    )
    (output / FILE).write_text(toml_of(own), encoding="utf-8")
    return own


def stored_dtype(base: Path) -> torch.dtype:
    """Returns the number format that a folder's config.json names, or float16 if it names none."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    return getattr(torch, config.get("torch_dtype") or config.get("dtype") or "float16")  # type: ignore[no-any-return]


def convert_weights(saved: Path, output: Path, dtype: torch.dtype) -> dict[str, str]:
    """Writes the shards of `saved` to `output` under FakeVLM's names, as `dtype`. Returns the SHA-256 of each file."""
    checksums = {}
    for shard in sorted(saved.glob("*.safetensors")):
        weights = {old_name(name): tensor.to(dtype).contiguous() for name, tensor in load_file(shard).items()}
        save_file(weights, output / shard.name, metadata={"format": "pt"})
        (output / shard.name).chmod(0o644)  # safetensors makes the file readable only for its owner
        with (output / shard.name).open("rb") as file:
            checksums[shard.name] = hashlib.file_digest(file, "sha256").hexdigest()
    if (saved / INDEX).is_file():
        index: dict[str, Any] = json.loads((saved / INDEX).read_text(encoding="utf-8"))
        index["weight_map"] = {old_name(name): file for name, file in index["weight_map"].items()}
        (output / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return checksums


def toml_of(description: DetectorDescription) -> str:
    """Returns the TOML of everything that differs from the defaults, and of the kind if it is no language model."""
    kind = {} if isinstance(description, VlmDescription) else {"kind": str(description.kind)}
    content = kind | description.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return f"# Written by fakesweep train; training.json says from what.\n{tomlkit.dumps(content)}"
