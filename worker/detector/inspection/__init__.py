"""Checks before an engine starts whether a model folder can be what the description says. Cheap checks come first."""

from pathlib import Path

from worker.detector.description import ClassifierDescription, DetectorDescription
from worker.detector.engine import not_importable
from worker.detector.inspection.classifier import CLASSIFIER_CHECKS
from worker.detector.inspection.content import CONTENT_CHECKS
from worker.detector.inspection.files import CLASSIFIER_FILE_CHECKS, FILE_CHECKS
from worker.detector.inspection.model import ModelFolder
from worker.detector.quiet import quiet_transformers


def inspect(folder: Path, description: DetectorDescription, *, engine: str, gpu_memory_utilization: float) -> None:
    """Raises ConfigurationError, one line with cause and remedy, if `engine` cannot run this folder as described.

    `gpu_memory_utilization` is the share of a GPU's memory that vLLM takes. This reads only the headers of the weights,
    and does not use the GPU: its memory is for the engine.
    """
    model = ModelFolder(folder, description, engine, gpu_memory_utilization)
    classifies = isinstance(description, ClassifierDescription)
    check_files(model)
    try:
        with quiet_transformers():
            for check in CLASSIFIER_CHECKS if classifies else CONTENT_CHECKS:
                check(model)
    except ImportError as error:
        raise not_importable("transformers" if classifies else engine, error) from error


def check_files(model: ModelFolder) -> None:
    """Raises ConfigurationError if files are missing or damaged. It takes milliseconds, and loads no library."""
    classifies = isinstance(model.description, ClassifierDescription)
    for check in CLASSIFIER_FILE_CHECKS if classifies else FILE_CHECKS:
        check(model)
