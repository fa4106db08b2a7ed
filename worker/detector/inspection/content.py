"""Checks what the files of a model folder mean, with transformers and vLLM. This takes seconds."""

from collections.abc import Callable
from typing import Any

import structlog

from worker.detector.inspection.model import ModelFolder, line
from worker.detector.memory import available_bytes, cache_bytes, weight_bytes
from worker.detector.tokens import verdict_tokens
from worker.detector.weights import refusal

log = structlog.get_logger(__name__)


def _check_kind(model: ModelFolder) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES  # noqa: PLC0415

    kind = model.raw_config["model_type"]
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise refusal(
            f"{model.folder / 'config.json'} describes a model of type {kind!r}, which does not answer about images",
            "give a vision-language model such as a LLaVA",
        )
    _ = model.config


def _check_vllm_knows_it(model: ModelFolder) -> None:
    if model.engine != "vllm":
        return
    import transformers  # noqa: PLC0415
    from vllm import ModelRegistry, __version__  # noqa: PLC0415

    names = model.raw_config.get("architectures") or []
    # vLLM runs models that it does not know itself through transformers.
    if not any(name in ModelRegistry.get_supported_archs() or hasattr(transformers, name) for name in names):
        raise refusal(
            f"vLLM {__version__} does not know the architecture {', '.join(names) or '(config.json names none)'}",
            "give another model, or another version of vLLM",
        )


def weights_and_cache(model: ModelFolder) -> tuple[int, int]:
    """Returns the bytes that a vision-language model needs at least: of its weights, and for one answer.

    Raises ConfigurationError if the model is of another kind.
    """
    _check_kind(model)
    limits = model.vlm.engine
    packed = bool(model.raw_config.get("quantization_config"))
    weights = weight_bytes(model.tensors.values(), limits, packed=packed)
    return weights, cache_bytes(model.config.get_text_config(), limits)


def _check_memory(model: ModelFolder) -> None:
    limits = model.vlm.engine
    weights, cache = weights_and_cache(model)
    available, where = available_bytes(model.engine, model.gpu_memory_utilization)
    if weights + cache > available:
        smaller = "" if limits.quantization else ", or on a GPU set FAKESWEEP_QUANTIZATION=fp8_per_tensor"
        raise refusal(
            f"the model needs at least {(weights + cache) / 1e9:.1f} GB ({weights / 1e9:.1f} GB of weights as "
            f"{limits.quantization or limits.dtype}, {cache / 1e9:.1f} GB for one answer), but there are only "
            f"{available / 1e9:.1f} GB ({where})",
            f"use a larger GPU or machine{smaller}",
        )


def _check_prompt(model: ModelFolder) -> None:
    from transformers import AutoProcessor  # noqa: PLC0415

    placeholder, answer = model.vlm.image_placeholder, model.vlm.answer
    try:
        processor = AutoProcessor.from_pretrained(model.folder)
        ids = processor.tokenizer.encode(placeholder, add_special_tokens=False)
    except Exception as error:
        raise refusal(
            f"the processor in {model.folder} cannot be read ({line(error)})", "copy the base model's files again"
        ) from error
    image_token = getattr(model.config, "image_token_id", getattr(model.config, "image_token_index", None))
    if len(ids) != 1 or image_token not in {None, ids[0]}:
        raise refusal(
            f"the prompt's {placeholder!r} is not the model's image token (the tokens {ids}, not {image_token})",
            "set image_placeholder in detector.toml to that token, or give the tokenizer that belongs to the model",
        )
    verdict_tokens(processor.tokenizer, answer)


def _check_weights_fit_the_config(model: ModelFolder) -> None:
    from transformers import AutoModelForImageTextToText  # noqa: PLC0415

    compare_weights(model, AutoModelForImageTextToText)


def compare_weights(model: ModelFolder, auto_class: Any) -> None:
    """Raises ConfigurationError if weights are missing or have other shapes than config.json says.

    Loads the model onto torch's meta device, which keeps shapes and reads no weights: 0.1 s for any size.
    """
    from transformers.utils import is_accelerate_available  # noqa: PLC0415

    if model.raw_config.get("quantization_config") or not is_accelerate_available():
        log.info("weights_not_compared", model=str(model.folder))  # they are quantised, or accelerate is not installed
        return
    try:
        _, found = auto_class.from_pretrained(
            model.folder, device_map="meta", ignore_mismatched_sizes=True, output_loading_info=True
        )
    except Exception as error:
        raise refusal(f"the weights in {model.folder} cannot be loaded ({line(error)})", "fetch it again") from error
    faults = [f"{name} is missing" for name in sorted(found["missing_keys"])]
    faults += [f"{name} is {list(has)}, not {list(wants)}" for name, has, wants in sorted(found["mismatched_keys"])]
    if faults:
        raise refusal(
            f"the weights in {model.folder} do not fit its config.json: {faults[0]} ({len(faults)} such tensors)",
            "give the config.json that belongs to these weights",
        )
    if found["unexpected_keys"]:
        log.warning("weights_unused", count=len(found["unexpected_keys"]), first=min(found["unexpected_keys"]))


CONTENT_CHECKS: tuple[Callable[[ModelFolder], None], ...] = (
    _check_kind,
    _check_vllm_knows_it,
    _check_memory,
    _check_prompt,
    _check_weights_fit_the_config,
)
"""They run in this order. Each raises ConfigurationError, one line with cause and remedy, or ImportError."""
