"""Checks before the start whether all models of a worker fit into the memory that they share."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from worker.detector.description import ClassifierDescription
from worker.detector.engine import not_importable
from worker.detector.inspection.content import weights_and_cache
from worker.detector.inspection.model import ModelFolder
from worker.detector.memory import AskDevice, Where, bytes_as, device_bytes
from worker.errors import ConfigurationError

log = structlog.get_logger(__name__)

CUDA_BYTES = 500_000_000
"""What CUDA takes for itself in a process: its context and its kernels. All classifiers share a process, and each
engine of vLLM has its own. The first engine's is not counted: if only that is missing, vLLM says so when it starts.
"""
BATCH_BYTES = 600_000_000
"""What a classifier takes beside its weights while it judges a batch of 16 images. In float32, the tensors of a layer
were measured as 0.61 GB at most for CLIP ViT-L/14 at 336 pixels, and as 0.62 GB for SigLIP so400m at 384 pixels
(torch's profiler, on a CPU). It starts without this memory, and then halves its batches.
"""


@dataclass(frozen=True)
class Need:
    """What a model of a worker needs, in bytes. `size` is what it needs at least.

    `by_share`: vLLM takes a share of the GPU for it. `batch` is what a classifier needs for a full batch on a GPU.
    """

    name: str
    where: Where
    size: int
    by_share: bool = False
    batch: int = 0


@dataclass(frozen=True)
class Misfit:
    """What is wrong with the memory, what to do about it, and the setting that is at fault.

    `starts`: only full batches do not fit. The worker starts, and classifiers halve their batches.
    """

    setting: str
    found: str
    remedy: str
    starts: bool = False


def check_together(models: Sequence[ModelFolder], device: AskDevice = device_bytes) -> None:
    """Raises ConfigurationError, one line with cause and remedy, if these models do not fit beside each other.

    Only logs a warning if they fit, but full batches of images do not. Each model by itself is not looked at: inspect()
    does that.
    """
    if len(models) < 2:  # noqa: PLR2004 - nothing to add up
        return
    devices = on_one_gpu([_device(model, device) for model in models])
    needs = [need_of(model, where) for model, (_, where) in zip(models, devices, strict=True)]
    for one in misfits(needs, {where: size for size, where in devices}, models[0].gpu_memory_utilization):
        if not one.starts:
            raise ConfigurationError(f"{one.setting}: {one.found}; {one.remedy}")
        log.warning("memory_tight", reason=one.found, remedy=one.remedy)


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


def misfits(needs: Sequence[Need], memory: Mapping[Where, int], gpu_memory_utilization: float) -> Iterator[Misfit]:
    """Yields a misfit for the GPU, and one for the machine, if these models need more than its `memory` in bytes.

    vLLM takes the share `gpu_memory_utilization` of the GPU for each of its models.
    """
    on_gpu = [one for one in needs if one.where is Where.GPU]
    if len(on_gpu) > 1 and (found := _gpu_misfit(on_gpu, memory[Where.GPU], gpu_memory_utilization)):
        yield found
    on_cpu = [one for one in needs if one.where is Where.MACHINE]
    needed, there = sum(one.size for one in on_cpu), memory.get(Where.MACHINE, 0)
    if len(on_cpu) > 1 and needed > there:
        listed = _listed([(one.name, one.size) for one in on_cpu])
        yield Misfit(
            "FAKESWEEP_DETECTOR",
            f"the models on the CPU need at least {_gb(needed)} together ({listed}), but there are only {_gb(there)} "
            f"({Where.MACHINE})",
            "use a larger machine, or smaller or fewer models",
        )


def _gpu_misfit(needs: Sequence[Need], total: int, share: float) -> Misfit | None:
    shared = [one for one in needs if one.by_share]
    others = [one for one in needs if not one.by_share]
    beside = [(one.name, one.size) for one in others]
    beside.append(("CUDA", CUDA_BYTES * (len(shared[1:]) + bool(others))))
    batches = sum(one.batch for one in others)
    least = sum(size for _, size in beside)
    taken = len(shared) * share * total + least
    if taken + batches <= total:
        return None
    fault = "the models do not fit on the GPU together"
    if starts := taken <= total:
        fault = "the models fit on the GPU together, but full batches of images do not"
        beside.append(("batches", batches))
    needed = f"{_gb(sum(size for _, size in beside))} are needed"
    if not shared:
        found = f"{fault}. The GPU has {_gb(total)}, and {needed} ({_listed(beside)})"
        remedy = 'use a larger GPU, or set device = "cpu" in the description of a classifier'
        return Misfit("FAKESWEEP_DETECTOR", found, remedy, starts)
    takes = " and ".join(f"{_gb(share * total)} for {one.name}" for one in shared)
    found = (
        f"{fault}. The GPU has {_gb(total)}. vLLM takes {share:.0%} of it: {takes}, and {needed} beside it "
        f"({_listed(beside)})"
    )
    remedy = _remedy(shared, others, total - least - batches, total)
    return Misfit("FAKESWEEP_GPU_MEMORY_UTILIZATION", found, remedy, starts)


def _remedy(shared: Sequence[Need], others: Sequence[Need], left: int, total: int) -> str:
    most = math.floor(100 * left / total / len(shared)) / 100
    enough = most * total >= max(one.size for one in shared)  # with less, vLLM could not load its model
    steps = [f"set FAKESWEEP_GPU_MEMORY_UTILIZATION to at most {most:g}" if enough else "use a larger GPU"]
    if others:
        steps.append(f'set device = "cpu" in the description of {" or ".join(one.name for one in others)}')
    if len(shared) > 1:
        steps.append("use fewer models")
    return ", or ".join(steps)


def _device(model: ModelFolder, device: AskDevice) -> tuple[int, Where]:
    engine, on_cpu = model.engine, False
    if isinstance(model.description, ClassifierDescription):
        engine, on_cpu = "transformers", model.description.device == "cpu"
    try:
        return device(engine, on_cpu=on_cpu)
    except ImportError as error:
        raise not_importable(engine, error) from error


def need_of(model: ModelFolder, where: Where) -> Need:
    """Returns what this model needs of this memory. Raises ConfigurationError if its files cannot be read."""
    name = model.description.name
    if isinstance(model.description, ClassifierDescription):
        size = bytes_as(model.tensors.values(), model.description.dtype)
        return Need(name, where, size, batch=BATCH_BYTES if where is Where.GPU else 0)
    try:
        size = sum(weights_and_cache(model))
    except ImportError as error:
        raise not_importable(model.engine, error) from error
    return Need(name, where, size, by_share=model.engine == "vllm" and where is Where.GPU)


def _listed(sizes: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {_gb(size)}" for name, size in sizes)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
