"""Checks before the start whether all models of a worker fit into the memory that they share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.detector.description import ClassifierDescription
from worker.detector.engine import not_importable
from worker.detector.inspection.content import weights_and_cache
from worker.detector.inspection.model import ModelFolder
from worker.detector.memory import Where, bytes_as, device_bytes
from worker.errors import ConfigurationError

CUDA_BYTES = 500_000_000
"""What CUDA takes for itself in a process: its context and its kernels. vLLM counts that of its own process."""
BATCH_BYTES = 600_000_000
"""What a classifier takes beside its weights while it judges a batch of 16 images. In float32, the tensors of a layer
were measured as 0.61 GB at most for CLIP ViT-L/14 at 336 pixels, and as 0.62 GB for SigLIP so400m at 384 pixels
(torch's profiler, on a CPU). If a batch needs more than there is, it is halved.
"""


@dataclass(frozen=True)
class Need:
    """A model of a worker. `size`: the bytes that it needs at least. None: vLLM takes a share of the GPU for it."""

    name: str
    where: Where
    size: int | None


def check_together(models: Sequence[ModelFolder]) -> None:
    """Raises ConfigurationError, one line with cause and remedy, if these models do not fit beside each other.

    Each one by itself is not looked at: inspect() does that.
    """
    if len(models) < 2:  # noqa: PLR2004 - nothing to add up
        return
    try:
        devices = on_one_gpu([_device(model) for model in models])
        needs = [need_of(model, where) for model, (_, where) in zip(models, devices, strict=True)]
    except ImportError as error:
        raise not_importable(models[0].engine, error) from error
    add_up(needs, {where: size for size, where in devices}, models[0].gpu_memory_utilization)


def on_one_gpu(devices: Sequence[tuple[int, Where]]) -> Sequence[tuple[int, Where]]:
    """Returns the devices of the models. vLLM does not know the memory of each GPU, such as that of a slice. If torch
    knows it, vLLM's models are counted there, too.
    """
    known = [size for size, where in devices if where is Where.GPU]
    if not known:
        return devices
    return [
        (min(known), Where.GPU) if where in {Where.GPU, Where.UNKNOWN} else (size, where) for size, where in devices
    ]


def add_up(needs: Sequence[Need], memory: Mapping[Where, int], gpu_memory_utilization: float) -> None:
    """Raises ConfigurationError if what these models need is more than the `memory` in bytes. vLLM takes the share
    `gpu_memory_utilization` of the GPU for each of its models.
    """
    _on_gpu([one for one in needs if one.where is Where.GPU], memory.get(Where.GPU, 0), gpu_memory_utilization)
    on_cpu = [one for one in needs if one.where is Where.MACHINE]
    needed, there = sum(one.size or 0 for one in on_cpu), memory.get(Where.MACHINE, 0)
    if len(on_cpu) > 1 and needed > there:
        raise ConfigurationError(
            f"FAKESWEEP_DETECTOR: the models on the CPU need at least {_gb(needed)} together ({_listed(on_cpu)}), but "
            f"there are only {_gb(there)} ({Where.MACHINE}); use a larger machine, or smaller or fewer models"
        )


def _on_gpu(needs: Sequence[Need], total: int, share: float) -> None:
    shared = [one for one in needs if one.size is None]
    others = [one for one in needs if one.size is not None]
    beside = sum(one.size or 0 for one in others) + (CUDA_BYTES if others else 0)
    if len(needs) < 2 or len(shared) * share * total + beside <= total:  # noqa: PLR2004
        return
    if not shared:
        raise ConfigurationError(
            f"FAKESWEEP_DETECTOR: the models need {_gb(beside)} of the GPU together ({_listed(others)}), but it has "
            f'only {_gb(total)}; use a larger GPU, or set device = "cpu" in the description of a classifier'
        )
    takes = " and ".join(f"{_gb(share * total)} for {one.name}" for one in shared)
    also = f", and {_gb(beside)} are needed beside it ({_listed(others)})" if others else ""
    raise ConfigurationError(
        f"FAKESWEEP_GPU_MEMORY_UTILIZATION: the models do not fit on the GPU together. It has {_gb(total)}. vLLM takes "
        f"{share:.0%} of it: {takes}{also}; {_remedy(shared, others, total - beside, total)}"
    )


def _remedy(shared: Sequence[Need], others: Sequence[Need], left: int, total: int) -> str:
    most = math.floor(100 * left / total / len(shared)) / 100
    steps = [f"set it to at most {most:g}"] if most > 0 else ["use a larger GPU"]
    if others:
        steps.append(f'set device = "cpu" in the description of {" or ".join(one.name for one in others)}')
    elif most > 0:
        steps.append("use fewer models")
    return ", or ".join(steps)


def _device(model: ModelFolder) -> tuple[int, Where]:
    if isinstance(model.description, ClassifierDescription):
        return device_bytes("transformers", on_cpu=model.description.device == "cpu")
    return device_bytes(model.engine)


def need_of(model: ModelFolder, where: Where) -> Need:
    """Returns what this model needs of this memory. Raises ConfigurationError if its files cannot be read."""
    name = model.description.name
    if isinstance(model.description, ClassifierDescription):
        margin = BATCH_BYTES if where is Where.GPU else 0
        return Need(name, where, bytes_as(model.tensors.values(), model.description.dtype) + margin)
    if model.engine == "vllm" and where is Where.GPU:
        return Need(name, where, None)
    return Need(name, where, sum(weights_and_cache(model)))


def _listed(needs: Sequence[Need]) -> str:
    return ", ".join(f"{one.name} {_gb(one.size or 0)}" for one in needs)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
