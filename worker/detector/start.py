"""Starts the engine that FAKESWEEP_ENGINE names, for the worker and for an evaluation."""

import os
from pathlib import Path
from typing import Any

import structlog

from worker.detector.description import DetectorDescription
from worker.detector.engine import Engine, not_importable
from worker.detector.supply import supply
from worker.errors import ConfigurationError
from worker.settings import Settings

log = structlog.get_logger(__name__)


def start_detector(description: DetectorDescription, settings: Settings) -> tuple[DetectorDescription, Engine]:
    """Fetches the model and starts its engine. Returns the description with its true revision, and the engine.

    Raises like supply() and start_engine().
    """
    description, folder = supply(description, settings)
    return description, start_engine(description, folder, settings)


def start_engine(description: DetectorDescription, folder: Path, settings: Settings) -> Engine:
    """Starts the engine that FAKESWEEP_ENGINE names. Only the packages of this engine are imported.

    Raises ConfigurationError if the engine cannot be imported, finds no device to run on, or cannot load the model.
    """
    log.info("engine_starting", engine=settings.engine, detector=description.name, model=str(folder))
    try:
        if settings.engine == "transformers":
            from worker.detector.transformers_engine import TransformersEngine  # noqa: PLC0415

            return TransformersEngine(description, folder, stall_s=settings.engine_stall_s)
        # On CUDA, vLLM would fork, but this process already has threads and sockets.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        from vllm.platforms import current_platform  # noqa: PLC0415

        from worker.detector.vllm_engine import VllmEngine  # noqa: PLC0415

        refuse_no_device(current_platform)
        return VllmEngine(description, folder, settings)
    except ImportError as error:
        raise not_importable(settings.engine, error) from error


def refuse_no_device(platform: Any) -> None:
    """Raises ConfigurationError if vLLM was built for GPUs and finds none. `platform` is vLLM's current_platform."""
    if platform.is_unspecified():
        raise ConfigurationError(
            "vLLM finds no GPU: install the NVIDIA driver, or give the GPU to the container (docker run --gpus all). "
            "`fakesweep check --for worker` looks for it"
        )
