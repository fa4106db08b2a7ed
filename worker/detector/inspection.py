"""Whether a model folder can be what the description says, found out before an engine starts: cheap checks first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog

from worker.detector.description import DetectorDescription
from worker.detector.engine import not_importable
from worker.detector.memory import available_bytes, cache_bytes, weight_bytes
from worker.detector.tokens import verdict_tokens
from worker.detector.weights import Tensor, read_header, read_json, refusal, refuse_pointer, weight_files

log = structlog.get_logger(__name__)

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class _Model:
    """What is inspected; each part is read once, by the first check that asks for it."""

    folder: Path
    description: DetectorDescription
    engine: str
    gpu_memory_utilization: float

    @cached_property
    def raw_config(self) -> dict[str, Any]:
        return read_json(self.folder / "config.json")

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return {name: tensor for path in weight_files(self.folder) for name, tensor in read_header(path).items()}

    @cached_property
    def config(self) -> Any:
        from transformers import AutoConfig  # noqa: PLC0415 - takes seconds; cheaper checks go first

        try:
            return AutoConfig.from_pretrained(self.folder)
        except Exception as error:
            raise refusal(f"{self.folder / 'config.json'} is not valid ({_line(error)})", "correct it") from error


def inspect(folder: Path, description: DetectorDescription, *, engine: str, gpu_memory_utilization: float) -> None:
    """Raises ConfigurationError, one line with cause and remedy, when `engine` cannot run this folder as described.

    `gpu_memory_utilization` is the share of a GPU's memory that vLLM takes. Reads no weights, only their headers, and
    leaves the GPU alone: its memory is for the engine.
    """
    model = _Model(folder, description, engine, gpu_memory_utilization)
    for check in _OF_FILES:
        check(model)
    try:
        with _quiet_transformers():
            for check in _OF_CONTENT:
                check(model)
    except ImportError as error:
        raise not_importable(engine, error) from error


def _is_a_folder(model: _Model) -> None:
    if not model.folder.exists():
        raise refusal(f"there is no folder {model.folder}", "give a model folder, s3://bucket/prefix or a hub id")
    if not model.folder.is_dir():
        raise refusal(f"{model.folder} is a file", "give the folder that holds config.json and the weights")


def _has_a_config(model: _Model) -> None:
    if not (model.folder / "config.json").is_file():
        raise refusal(f"{model.folder} holds no config.json", "give a folder with config.json and *.safetensors")
    if not isinstance(model.raw_config.get("model_type"), str):
        raise refusal(f"{model.folder / 'config.json'} names no model_type", "fetch it again")


def _has_whole_weights(model: _Model) -> None:
    _ = model.tensors


def _has_tokenizer_and_processor(model: _Model) -> None:
    for kind, names in (("tokenizer", _TOKENIZERS), ("image processor", _PROCESSORS)):
        found = [model.folder / name for name in names if (model.folder / name).is_file()]
        if not found:
            raise refusal(f"{model.folder} holds no {kind}", f"copy it from the base model: {' or '.join(names)}")
        for path in found:
            refuse_pointer(path)


def _answers_about_images(model: _Model) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES  # noqa: PLC0415

    kind = model.raw_config["model_type"]
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise refusal(
            f"{model.folder / 'config.json'} describes a model of type {kind!r}, which does not answer about images",
            "give a vision-language model such as a LLaVA",
        )
    _ = model.config


def _is_known_to_vllm(model: _Model) -> None:
    if model.engine != "vllm":
        return
    import transformers  # noqa: PLC0415
    from vllm import ModelRegistry, __version__  # noqa: PLC0415

    names = model.raw_config.get("architectures") or []
    # vLLM runs what it does not know itself by way of transformers.
    if not any(name in ModelRegistry.get_supported_archs() or hasattr(transformers, name) for name in names):
        raise refusal(
            f"vLLM {__version__} does not know the architecture {', '.join(names) or '(config.json names none)'}",
            "give another model, or another version of vLLM",
        )


def _fits_into_memory(model: _Model) -> None:
    limits = model.description.engine
    packed = bool(model.raw_config.get("quantization_config"))
    weights = weight_bytes(model.tensors.values(), limits, packed=packed)
    cache = cache_bytes(model.config.get_text_config(), limits)
    available, where = available_bytes(model.engine, model.gpu_memory_utilization)
    if weights + cache > available:
        smaller = "" if limits.quantization else ", or on a GPU set FAKESWEEP_QUANTIZATION=fp8_per_tensor"
        raise refusal(
            f"the model needs at least {(weights + cache) / 1e9:.1f} GB ({weights / 1e9:.1f} GB of weights as "
            f"{limits.quantization or limits.dtype}, {cache / 1e9:.1f} GB for one answer) and there are "
            f"{available / 1e9:.1f} GB ({where})",
            f"use a larger card or machine{smaller}",
        )


def _reads_the_prompt(model: _Model) -> None:
    from transformers import AutoProcessor  # noqa: PLC0415

    placeholder, answer = model.description.image_placeholder, model.description.answer
    try:
        processor = AutoProcessor.from_pretrained(model.folder)
        ids = processor.tokenizer.encode(placeholder, add_special_tokens=False)
    except Exception as error:
        raise refusal(
            f"the processor in {model.folder} cannot be read ({_line(error)})", "copy the base model's files again"
        ) from error
    image_token = getattr(model.config, "image_token_id", getattr(model.config, "image_token_index", None))
    if len(ids) != 1 or image_token not in {None, ids[0]}:
        raise refusal(
            f"the prompt's {placeholder!r} is not the model's image token (the tokens {ids}, not {image_token})",
            "set image_placeholder in detector.toml to that token, or give the tokenizer that belongs to the model",
        )
    verdict_tokens(processor.tokenizer, answer)


def _has_the_weights_of_its_config(model: _Model) -> None:
    """Loads the model onto torch's meta device, which keeps shapes and reads no weights: 0.1 s, whatever their size."""
    from transformers import AutoModelForImageTextToText  # noqa: PLC0415
    from transformers.utils import is_accelerate_available  # noqa: PLC0415

    if model.raw_config.get("quantization_config") or not is_accelerate_available():
        log.info("weights_not_compared", model=str(model.folder))  # quantised, or nothing to load with: the engine will
        return
    try:
        _, found = AutoModelForImageTextToText.from_pretrained(
            model.folder, device_map="meta", ignore_mismatched_sizes=True, output_loading_info=True
        )
    except Exception as error:
        raise refusal(f"the weights in {model.folder} cannot be loaded ({_line(error)})", "fetch it again") from error
    faults = [f"{name} is missing" for name in sorted(found["missing_keys"])]
    faults += [f"{name} is {list(has)}, not {list(wants)}" for name, has, wants in sorted(found["mismatched_keys"])]
    if faults:
        raise refusal(
            f"the weights in {model.folder} do not fit its config.json: {faults[0]} ({len(faults)} such tensors)",
            "give the config.json that belongs to these weights",
        )
    if found["unexpected_keys"]:
        log.warning("weights_unused", count=len(found["unexpected_keys"]), first=min(found["unexpected_keys"]))


_OF_FILES: tuple[Callable[[_Model], None], ...] = (
    _is_a_folder,
    _has_a_config,
    _has_whole_weights,
    _has_tokenizer_and_processor,
)
_OF_CONTENT: tuple[Callable[[_Model], None], ...] = (
    _answers_about_images,
    _is_known_to_vllm,
    _fits_into_memory,
    _reads_the_prompt,
    _has_the_weights_of_its_config,
)


def _line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200] if said else 'no reason given'}"


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """transformers draws progress bars and prints tables; what matters of them is in our one line."""
    from transformers.utils import logging  # noqa: PLC0415

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
