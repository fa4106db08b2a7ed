"""Whether this machine's GPUs can be used, and whether they have enough free memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from producers.checking.model import engines_of, runs_on_cpu, runs_without_gpu
from producers.checking.rows import Check, Process, Row, Subject, ok, skipped, wrong
from worker.gpus import nvml_text

_GIB = 2**30


class Card(NamedTuple):
    """A GPU, as NVML describes it. Memory in bytes."""

    name: str
    total: int
    free: int


def _gpus(subject: Subject) -> Iterator[Row]:
    if "vllm" in engines_of(subject) and runs_on_cpu():
        yield skipped("vLLM is installed for CPUs")
        return
    if runs_without_gpu(subject):
        yield skipped("the detector's description says that it runs on the CPU")
        return
    try:
        import pynvml
    except ImportError:
        yield wrong("nvidia-ml-py, which looks for GPUs, is not installed", "pip install 'fakesweep[gpu]'")
        return
    try:
        pynvml.nvmlInit()
        driver, cards = nvml_text(pynvml.nvmlSystemGetDriverVersion()), _cards(pynvml)
    except pynvml.NVMLError as error:
        yield wrong(f"there is no NVIDIA driver: {error}", "install the driver, or give the GPU to the container")
        return
    yield from judged(cards, driver, subject.environment, subject.settings.gpu_memory_utilization)


def _cards(pynvml: Any) -> list[Card]:
    handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    memory = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
    names = [nvml_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    return [Card(name, one.total, one.free) for name, one in zip(names, memory, strict=True)]


def judged(cards: Sequence[Card], driver: str, environment: Mapping[str, str], utilization: float) -> Iterator[Row]:
    """Gives a row for each card that CUDA_VISIBLE_DEVICES allows."""
    chosen = _chosen(cards, environment.get("CUDA_VISIBLE_DEVICES"))
    if not chosen:
        where = "CUDA_VISIBLE_DEVICES hides all" if cards else "the driver finds none"
        yield wrong(f"no GPU: {where}", "give the GPU to this process, or correct CUDA_VISIBLE_DEVICES")
    for number, card in chosen.items():
        yield _judged(number, card, driver, utilization)


def _chosen(cards: Sequence[Card], visible: str | None) -> dict[int, Card]:
    entries = [part.strip() for part in (visible or "").split(",") if part.strip()]
    if visible is None or not all(entry.isdecimal() for entry in entries):
        return dict(enumerate(cards))  # CUDA alone knows the names of cards and of their slices
    return {int(entry): cards[int(entry)] for entry in entries if int(entry) < len(cards)}


def _judged(number: int, card: Card, driver: str, utilization: float) -> Row:
    found = f"{card.name}, {card.free / _GIB:.1f} of {card.total / _GIB:.1f} GiB free, driver {driver}"
    wanted = card.total * utilization
    if card.free < wanted:
        remedy = "end what uses the GPU, such as a worker that runs already, or lower FAKESWEEP_GPU_MEMORY_UTILIZATION"
        return wrong(f"{found}; vLLM wants {wanted / _GIB:.1f} GiB ({utilization:g})", remedy, str(number))
    return ok(found, str(number))


CHECKS = (Check("gpu", _gpus, "check the NVIDIA driver (nvidia-smi)", needed_by=frozenset({Process.WORKER})),)
