"""Computes how much memory a model needs at least, and how much there is.

For vLLM, NVML is asked, so that CUDA stays untouched in this process. For models of transformers, torch is asked, which
starts CUDA here: they run in this process anyway. torch also knows the memory of a slice of a GPU, and NVML may not.
"""

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Protocol

import psutil
import structlog

from worker.detector.description import EngineLimits
from worker.detector.weights import Tensor

log = structlog.get_logger(__name__)


class Where(StrEnum):
    """Which memory a model takes."""

    GPU = "the GPU's memory"
    MACHINE = "available on this machine"
    UNKNOWN = "unknown"


class AskDevice(Protocol):
    """How device_bytes() is called. Tests give memory of their own."""

    def __call__(self, engine: str, *, on_cpu: bool = False) -> tuple[int, Where]:
        """See device_bytes()."""


_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


def weight_bytes(tensors: Iterable[Tensor], limits: EngineLimits, *, packed: bool) -> int:
    """Returns the bytes of the weights as described. This is a lower bound, since FP8 leaves some layers as they are.

    `packed` weights were quantised before they were saved, and keep their size.
    """
    if packed or (limits.quantization and not limits.quantization.startswith("fp8")):
        return sum(tensor.size for tensor in tensors)
    return (1 if limits.quantization else _BYTES[limits.dtype]) * sum(tensor.elements for tensor in tensors)


def bytes_as(tensors: Iterable[Tensor], dtype: str) -> int:
    """Returns the bytes of all numbers of the tensors in this number format."""
    return _BYTES[dtype] * sum(tensor.elements for tensor in tensors)


def cache_bytes(text_config: Any, limits: EngineLimits) -> int:
    """Returns the bytes of the keys and values of one sequence of max_model_len tokens, in all layers."""
    heads = getattr(text_config, "num_key_value_heads", None) or text_config.num_attention_heads
    width = getattr(text_config, "head_dim", None) or text_config.hidden_size // text_config.num_attention_heads
    kind = limits.kv_cache_dtype
    bytes_each = 1 if kind.startswith("fp8") else _BYTES.get(kind, _BYTES[limits.dtype])
    return int(2 * text_config.num_hidden_layers * heads * width * bytes_each * limits.max_model_len)


def available_bytes(engine: str, gpu_memory_utilization: float, *, on_cpu: bool = False) -> tuple[int, str]:
    """Returns how many bytes the engine may take, and of which memory. vLLM takes only a share of a GPU's memory.

    With `on_cpu`, it runs on the CPU even if there is a GPU.
    """
    total, where = device_bytes(engine, on_cpu=on_cpu)
    if engine == "vllm" and where is Where.GPU:
        return int(total * gpu_memory_utilization), f"{gpu_memory_utilization:.0%} of {where}"
    return total, where


def device_bytes(engine: str, *, on_cpu: bool = False) -> tuple[int, Where]:
    """Returns how many bytes the device has that the engine runs on, and which memory this is: all of a GPU's, or what
    is free on this machine. `on_cpu` is as in available_bytes().
    """
    if engine == "vllm":
        from vllm.platforms import current_platform  # noqa: PLC0415 - asks NVML

        if not current_platform.is_cpu():
            try:
                return current_platform.get_device_total_memory(), Where.GPU
            except Exception as error:  # noqa: BLE001 - NVML does not know every driver and every slice of a GPU
                log.warning("memory_unknown", reason=str(error))
                return sys.maxsize, Where.UNKNOWN
    elif not on_cpu:
        import torch  # noqa: PLC0415

        if torch.cuda.is_available():
            return torch.cuda.get_device_properties(0).total_memory, Where.GPU
    return psutil.virtual_memory().available, Where.MACHINE
