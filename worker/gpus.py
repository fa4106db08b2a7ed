"""Finds out which GPUs `--gpus` means, and which one this process uses."""

from collections.abc import Callable
from typing import Any

import structlog

from worker.errors import ConfigurationError

log = structlog.get_logger(__name__)


def choose_gpus(wanted: str, visible: str | None, count: Callable[[], int]) -> dict[int, str]:
    """Returns the GPUs that `--gpus` names: their numbers, and their names for CUDA_VISIBLE_DEVICES.

    `visible` is the present value of that variable. If it is set, the numbers count its entries. Otherwise they count
    the machine's GPUs. Raises ConfigurationError.
    """
    entries = None if visible is None else [entry.strip() for entry in visible.split(",") if entry.strip()]
    if wanted == "all":
        entries = [str(number) for number in range(count())] if entries is None else entries
        if not entries:
            where = "the driver finds none" if visible is None else "CUDA_VISIBLE_DEVICES is empty"
            raise ConfigurationError(f"--gpus all: there is no GPU ({where}); leave --gpus out to run one worker")
        return dict(enumerate(entries))
    numbers = [part.strip() for part in wanted.split(",")]
    if not all(number.isdecimal() for number in numbers) or len({*map(int, numbers)}) < len(numbers):
        raise ConfigurationError(f"--gpus is {wanted!r}: give all, or numbers such as 0,1, each once")
    if entries is None:
        return {int(number): str(int(number)) for number in numbers}
    if beyond := [number for number in numbers if int(number) >= len(entries)]:
        raise ConfigurationError(f"--gpus: no GPU {beyond[0]} among CUDA_VISIBLE_DEVICES={visible} (counted from 0)")
    return {int(number): entries[int(number)] for number in numbers}


def count_gpus() -> int:
    """Returns the number of GPUs by NVML, which does not start CUDA. Returns 0 without a driver."""
    try:
        import pynvml  # noqa: PLC0415 - only GPU machines need it
    except ImportError as error:
        raise ConfigurationError(
            "--gpus all: nvidia-ml-py counts the GPUs and is not installed; install fakesweep[gpu], or give numbers"
        ) from error
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def first_card(visible: str | None) -> tuple[str | None, str | None]:
    """Returns the version of the NVIDIA driver, and the name of the GPU that a process uses, which is its first one.

    `visible` is the value of CUDA_VISIBLE_DEVICES. Each is None where NVML does not know it. Numbers are those of NVML,
    which CUDA shares if CUDA_DEVICE_ORDER is PCI_BUS_ID, and in any case if all GPUs of the machine are alike.
    """
    driver = name = None
    try:
        import pynvml  # noqa: PLC0415 - only GPU machines need it

        pynvml.nvmlInit()
        driver = nvml_text(pynvml.nvmlSystemGetDriverVersion())
        name = nvml_text(pynvml.nvmlDeviceGetName(_handle(pynvml, visible)))
    except Exception as error:  # noqa: BLE001 - what a driver does not tell must not keep a worker from starting
        log.warning("gpu_not_named", reason=str(error))
    return driver, name


def _handle(pynvml: Any, visible: str | None) -> Any:
    first = (visible or "0").split(",")[0].strip()
    if first.isdecimal():
        return pynvml.nvmlDeviceGetHandleByIndex(int(first))
    return pynvml.nvmlDeviceGetHandleByUUID(first)  # of a GPU, or of a part of one (MIG)


def nvml_text(value: str | bytes) -> str:
    """Old releases of NVML's package give bytes."""
    return value.decode() if isinstance(value, bytes) else value
