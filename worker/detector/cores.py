"""Runs a model on the CPU: each core computes some images of a batch by itself.

By itself, torch shares every operation among all cores. They wait for each other after each one, and for the slowest
core, which another process may be using, such as vLLM.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import torch

from worker.cpus import usable_cpus
from worker.errors import ConfigurationError
from worker.messages import MAX_IMAGES

_TOGETHER = 2
"""About how many images a core computes together. Alone on two cores, four are 7 % faster
(`python -m benchmarks.classifier_cores`). Beside vLLM, a cascade judged 88 images a second with two, and 83 with four:
a core that is also used by others delays less if its parts are small.
"""
_BUSY = 0.85
"""The cores compute apart if they are busy for this share of the time or more: a batch that cannot be divided well is
faster if all cores share it. On two cores, sharing takes 1.2 times as long (the same benchmark).
"""
_START_S = 60


class Cores:
    """`count` threads, each of which computes on one core, about `together` images at a time.

    By default, there are as many as torch and the machine allow. Make it before other threads use torch for the first
    time: they would get one core, too. Raises ConfigurationError if the threads cannot be started.
    """

    def __init__(self, count: int | None = None, *, together: int = _TOGETHER) -> None:
        self._count = count or min(usable_cpus(), torch.get_num_threads())  # OMP_NUM_THREADS limits the latter
        self._together = together
        self._threads = ThreadPoolExecutor(self._count, "core")
        if 1 < self._count <= MAX_IMAGES:
            self._start()

    def _start(self) -> None:
        started, shared = Barrier(self._count + 1, timeout=_START_S), torch.get_num_threads()
        try:
            for _ in range(self._count):
                self._threads.submit(_take_one_core, started)
            started.wait()
        except BaseException as error:  # also SystemExit: a thread that waits for ever keeps the process from ending
            started.abort()
            self.close()
            if isinstance(error, RuntimeError):
                raise ConfigurationError(
                    f"the classifier cannot start a thread for each of {self._count} cores ({error}); raise the limit "
                    "of processes (ulimit -u, or the container's pids limit)"
                ) from error
            raise
        finally:
            torch.set_num_threads(shared)  # Otherwise, threads that use torch later would have one core, too.

    def run(self, model: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
        """Returns what the model returns for the images (the first dimension), in their order.

        Batches that cannot be divided well, such as one image, are computed in the calling thread on all cores. Raises
        what the model raises, after no thread computes any more.
        """
        count = _parts(len(batch), self._count, self._together)
        if count == 1:
            return model(batch)
        parts: list[Future[torch.Tensor]] = []
        try:
            for images in torch.tensor_split(batch, count):
                parts.append(self._threads.submit(model, images))  # noqa: PERF401 - `finally` needs those that began
            return torch.cat(list(map(Future.result, parts)))
        finally:
            wait(parts)
            parts.clear()  # An error refers to this list, which refers to the error: its memory would not be free.

    def close(self) -> None:
        """Ends the threads, after the parts that they still have."""
        self._threads.shutdown(wait=False)


def _parts(images: int, cores: int, together: int) -> int:
    """Into how many parts these images are divided, for so many cores. 1: the cores share all of them."""
    if cores == 1 or images < cores:
        return 1
    count = cores * max(1, round(images / (cores * together)))
    size, larger = divmod(images, count)  # the first `larger` parts have one image more
    longest = sum(size + (number < larger) for number in range(0, count, cores))
    return count if images >= _BUSY * cores * longest else 1


def _take_one_core(started: Barrier) -> None:
    torch.get_num_threads()  # torch sets its default at a thread's first call, and would replace ours later
    torch.set_num_threads(1)
    with suppress(BrokenBarrierError):
        started.wait()
