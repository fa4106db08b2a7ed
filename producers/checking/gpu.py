"""Whether this machine's GPUs can be used, and whether they have enough free memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from producers.checking.model import classifier_devices, engines_of, has_vllm_for_cpus
from producers.checking.rows import Check, Process, Row, State, Subject, ok, skipped, warning, wrong
from worker.gpus import nvml_text

_GIB = 2**30


class Card(NamedTuple):
    """A GPU, as NVML describes it. Memory in bytes."""

    name: str
    total: int
    free: int


def _gpus(subject: Subject) -> Iterator[Row]:
    engines, devices = engines_of(subject), classifier_devices(subject)
    if devices == ["cpu"]:
        yield skipped("the detector's description says that it runs on the CPU")
        return
    if "vllm" in engines and has_vllm_for_cpus():
        yield skipped("vLLM is installed for CPUs")
        return
    wanted = subject.settings.gpu_memory_utilization if "vllm" in engines else 0  # no other engine takes a share
    rows = _found(subject.environment, wanted)
    falls_back = devices is not None and "cuda" not in devices
    if falls_back and (lacking := next((row for row in rows if row.state is State.WRONG), None)):
        yield warning(
            f"no GPU is found: the classifier runs on the CPU ({lacking.found})",
            "nothing, if the CPU is fast enough; or else give the GPU to this process",
        )
        return
    yield from rows


def _found(environment: Mapping[str, str], utilization: float) -> list[Row]:
    """Returns a row for each GPU of this machine, or one that says why there is none."""
    try:
        import pynvml
    except ImportError:
        return [wrong("nvidia-ml-py, which looks for GPUs, is not installed", "pip install 'fakesweep[gpu]'")]
    try:
        pynvml.nvmlInit()
        driver, cards = nvml_text(pynvml.nvmlSystemGetDriverVersion()), _cards(pynvml)
    except pynvml.NVMLError as error:
        return [wrong(f"there is no NVIDIA driver: {error}", "install the driver, or give the GPU to the container")]
    return list(judged(cards, driver, environment, utilization))


def _cards(pynvml: Any) -> list[Card]:
    handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    memory = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
    names = [nvml_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    return [Card(name, one.total, one.free) for name, one in zip(names, memory, strict=True)]


def cards_here(environment: Mapping[str, str]) -> dict[int, Card]:
    """Returns the cards that CUDA_VISIBLE_DEVICES allows, by their numbers. Empty without a driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return _chosen(_cards(pynvml), environment.get("CUDA_VISIBLE_DEVICES"))
    except ImportError:
        return {}
    except pynvml.NVMLError:
        return {}


def judged(cards: Sequence[Card], driver: str, environment: Mapping[str, str], utilization: float) -> Iterator[Row]:
    """Gives a row for each card that CUDA_VISIBLE_DEVICES allows. vLLM takes the share `utilization` of its memory."""
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
