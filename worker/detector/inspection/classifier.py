"""Checks what the files of a classifier mean, with transformers. This takes seconds."""

from collections.abc import Callable

from worker.detector.description import Device
from worker.detector.inspection.content import compare_weights
from worker.detector.inspection.model import ModelFolder
from worker.detector.labels import label_numbers
from worker.detector.memory import available_bytes, bytes_as
from worker.detector.weights import refusal


def _check_kind(model: ModelFolder) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES  # noqa: PLC0415

    kind = model.raw_config["model_type"]
    if kind not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        raise refusal(
            f"{model.folder / 'config.json'} describes a model of type {kind!r}, which does not classify images",
            'give an image classifier of transformers, or set kind = "vlm" in detector.toml for one that gives reasons',
        )
    _ = model.config


def _check_labels(model: ModelFolder) -> None:
    label_numbers(model.classifier.labels, model.config.id2label)


def _check_weights_fit_the_config(model: ModelFolder) -> None:
    from transformers import AutoModelForImageClassification  # noqa: PLC0415

    compare_weights(model, AutoModelForImageClassification)


def _check_memory(model: ModelFolder) -> None:
    needed = bytes_as(model.tensors.values(), model.classifier.dtype)
    on_cpu = model.classifier.device is Device.CPU
    available, where = available_bytes("transformers", model.gpu_memory_utilization, on_cpu=on_cpu)
    if needed > available:
        raise refusal(
            f"the model needs at least {needed / 1e9:.1f} GB as {model.classifier.dtype}, but there are only "
            f"{available / 1e9:.1f} GB ({where})",
            "use a larger GPU or machine",
        )


CLASSIFIER_CHECKS: tuple[Callable[[ModelFolder], None], ...] = (
    _check_kind,
    _check_labels,
    _check_memory,
    _check_weights_fit_the_config,
)
"""They run in this order. Each raises ConfigurationError, one line with cause and remedy, or ImportError."""
