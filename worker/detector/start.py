"""Fetches and starts the detector that a description describes, for the worker and for an evaluation."""

import os
from collections.abc import Sequence
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
from worker.detector.further import faults_of_further
from worker.detector.inspection import check_files
from worker.detector.inspection.model import ModelFolder
from worker.detector.inspection.together import check_together, need_of
from worker.detector.memory import AskDevice, Where, device_bytes
from worker.detector.supply import locate, supply
from worker.detector.vlm import VlmDetector
from worker.errors import ConfigurationError
from worker.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SuppliedDetector:
    """A detector whose models are on this machine, inspected. `description` has its true revision.

    `folder` is the model's. A cascade has none: it has the `stages` first and judge.
    """

    description: DetectorDescription
    settings: Settings
    folder: Path | None = None
    stages: tuple["SuppliedDetector", ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of all its models."""
        return (self.folder,) if self.folder else tuple(folder for stage in self.stages for folder in stage.folders)

    def start(self) -> Detector:
        """Starts the detector. Raises ConfigurationError if an engine cannot be imported, finds no device to run on, or
        cannot load the model.
        """
        match self.description, self.folder:
            case CascadeDescription() as cascade, None:
                return _start_cascade(cascade, *self.stages)
            case ClassifierDescription() as classifier, Path() as folder:
                return _start_classifier(classifier, folder, self.settings)
            case VlmDescription() as vlm, Path() as folder:
                return VlmDetector(start_engine(vlm, folder, self.settings), vlm)
            case _:
                raise TypeError(self)


def supply_detector(
    description: DetectorDescription, settings: Settings, device: AskDevice = device_bytes
) -> SuppliedDetector:
    """Fetches and inspects all models of a detector. Raises like supply().

    Raises ConfigurationError also for a cascade without a clear threshold, before anything is fetched. It raises it for
    a threshold that was found with another first stage, before the judge is fetched, and for two stages that do not fit
    into memory together. `device` tells how much memory there is for both.
    """
    if not isinstance(description, CascadeDescription):
        description, folder = supply(description, settings)
        return SuppliedDetector(description, settings, folder)
    description.calibrated_up_to()
    first = supply_detector(description.first, settings, device)
    description.check_first(first.description)
    if description.clear.max_miss_rate is not None and description.clear.fitted_with is None:
        log.warning("cascade_first_stage_unknown", detector=description.name, missing="clear.fitted_with")
    judge = supply_detector(description.judge, settings, device)
    stages = (first, judge)
    check_together([_opened(one.description, one.folder, settings) for one in stages if one.folder], device)
    return SuppliedDetector(description.with_stages(first.description, judge.description), settings, stages=stages)


def check_memory(
    main: DetectorDescription,
    further: Sequence[DetectorDescription],
    settings: Settings,
    device: AskDevice = device_bytes,
) -> None:
    """Fetches the models of all detectors of a worker, before the first one starts, which takes minutes.

    Raises ConfigurationError if they do not fit into memory together, and like supply_detector(). `device` tells how
    much memory there is.
    """
    models = _located(main, settings)
    for one in further:
        with faults_of_further(one.name):
            models += _located(one, settings)
    check_together(models, device)


def _located(description: DetectorDescription, settings: Settings) -> list[ModelFolder]:
    if isinstance(description, CascadeDescription):
        description.calibrated_up_to()
        if description.clear.fitted_with:  # otherwise, the first stage is inspected later, and only once
            description.check_first(supply_detector(description.first, settings).description)
        return _located(description.first, settings) + _located(description.judge, settings)
    folder, _ = locate(description, settings.model_cache, settings.fetch_timeout_s)
    model = _opened(description, folder, settings)
    check_files(model)
    need_of(model, Where.UNKNOWN)  # a fault in what check_together() reads is told with the name of this detector
    return [model]


def _opened(description: DetectorDescription, folder: Path, settings: Settings) -> ModelFolder:
    return ModelFolder(folder, description, settings.engine, settings.gpu_memory_utilization)


def start_detector(description: DetectorDescription, settings: Settings) -> Detector:
    """Fetches the models of a detector and starts it. Raises like supply() and SuppliedDetector.start()."""
    return supply_detector(description, settings).start()


def _start_cascade(description: CascadeDescription, first: SuppliedDetector, judge: SuppliedDetector) -> Detector:
    started = first.start()
    try:
        return CascadeDetector(description, started, judge.start())
    except BaseException:
        started.close()
        raise


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
