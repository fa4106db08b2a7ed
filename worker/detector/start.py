"""Fetches and starts the detector that a description describes, for the worker and for an evaluation."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from worker.detector.cascade import CascadeDetector
from worker.detector.description import (
    CascadeDescription,
    ClassifierDescription,
    DetectorDescription,
    VlmDescription,
)
from worker.detector.detector import Detector
from worker.detector.engine import Engine, not_importable
from worker.detector.supply import supply
from worker.detector.vlm import VlmDetector
from worker.errors import ConfigurationError
from worker.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SuppliedDetector:
    """A detector whose models are on this machine, inspected. `folders` are theirs, by the names of the models.

    `description` has their true revisions.
    """

    description: DetectorDescription
    folders: dict[str, Path]
    settings: Settings

    def start(self) -> Detector:
        """Starts the detector. Raises ConfigurationError if an engine cannot be imported, finds no device to run on, or
        cannot load the model.
        """
        return _start(self.description, self.folders, self.settings)


def supply_detector(description: DetectorDescription, settings: Settings) -> SuppliedDetector:
    """Fetches and inspects all models of a detector. Raises like supply().

    Raises ConfigurationError also for a cascade without a clear threshold, before anything is fetched.
    """
    if not isinstance(description, CascadeDescription):
        description, folder = supply(description, settings)
        return SuppliedDetector(description, {description.model: folder}, settings)
    description.calibrated_up_to()
    stages = [supply_detector(one, settings) for one in (description.first, description.judge)]
    return SuppliedDetector(
        description.with_stages(*(one.description for one in stages)),
        {model: folder for one in stages for model, folder in one.folders.items()},
        settings,
    )


def start_detector(description: DetectorDescription, settings: Settings) -> Detector:
    """Fetches the models of a detector and starts it. Raises like supply() and SuppliedDetector.start()."""
    return supply_detector(description, settings).start()


def _start(description: DetectorDescription, folders: dict[str, Path], settings: Settings) -> Detector:
    match description:
        case CascadeDescription():
            first = _start(description.first, folders, settings)
            try:
                return CascadeDetector(description, first, _start(description.judge, folders, settings))
            except BaseException:
                first.close()
                raise
        case ClassifierDescription():
            return _start_classifier(description, folders[description.model], settings)
        case VlmDescription():
            return VlmDetector(start_engine(description, folders[description.model], settings), description)
        case _:
            raise TypeError(description)


def _start_classifier(description: ClassifierDescription, folder: Path, settings: Settings) -> Detector:
    log.info("classifier_starting", detector=description.name, model=str(folder))
    try:
        from worker.detector.classifier import ClassifierDetector  # noqa: PLC0415
    except ImportError as error:
        raise not_importable("transformers", error) from error
    return ClassifierDetector(description, folder, stall_s=settings.engine_stall_s)


def start_engine(description: VlmDescription, folder: Path, settings: Settings) -> Engine:
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
