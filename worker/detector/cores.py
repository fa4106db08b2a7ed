"""Runs a model on the CPU: each core computes some images of a batch by itself.

By itself, torch shares every operation among all cores. They wait for each other after each one, and for the slowest
core, which another process may be using, such as vLLM.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier

import torch

from worker.cpus import usable_cpus

_IMAGES = 2
"""How many images a core computes together. A demo head on two cores judges 88 images a second with 2, 83 with 4 and 78
with 1: what it computes for two images still fits into a core's cache.
"""


class Cores:
    """`count` threads, each of which computes on one core. Without `count`, on each core that this process may use."""

    def __init__(self, count: int | None = None) -> None:
        self._count = count or usable_cpus()
        started, shared = Barrier(self._count + 1), torch.get_num_threads()
        self._threads = ThreadPoolExecutor(self._count, "core")
        for _ in range(self._count):
            self._threads.submit(_take_one_core, started)
        started.wait()
        torch.set_num_threads(shared)  # of all threads that come later, which would have one core, too

    def run(self, model: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
        """Returns what the model returns for the images (the first dimension), in their order.

        Fewer images than cores are computed in the calling thread, on all cores. Raises what the model raises, after no
        thread computes any more.
        """
        if len(batch) < self._count:
            return model(batch)
        size = min(_IMAGES, len(batch) // self._count)
        parts = [self._threads.submit(model, part) for part in torch.split(batch, size)]
        wait(parts)
        return torch.cat([part.result() for part in parts])

    def close(self) -> None:
        """Ends the threads, after the parts that they still have."""
        self._threads.shutdown(wait=False)


def _take_one_core(started: Barrier) -> None:
    torch.get_num_threads()  # torch sets its default at a thread's first call, and would replace ours later
    torch.set_num_threads(1)
    started.wait()
