"""Tracks how many images are in the engine, and when it last finished one."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker.errors import EngineDeadError


class Progress:
    """Detects a hung engine: it has images, but finishes none within `stall_s` seconds.

    vLLM's core can hang behind a healthy front end (vllm#39863). A limit per message would mistake waiting behind other
    messages for hanging. The first image may take `first_s` seconds: on a fresh machine, kernels are compiled for it.
    """

    def __init__(self, stall_s: float, *, first_s: float = 1800, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall_s = stall_s
        self._first_s = max(first_s, stall_s)
        self._clock = clock
        self._lock = threading.Lock()
        self._last = clock()
        self.in_flight = 0
        self.finished = 0

    @contextmanager
    def images(self, count: int) -> Iterator[None]:
        """Counts images as in flight while the body runs."""
        with self._lock:
            if not self.in_flight:
                self._last = self._clock()
            self.in_flight += count
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= count

    def advance(self, images: int = 1) -> None:
        """Notes that images were finished, with or without an answer."""
        with self._lock:
            self._last = self._clock()
            self.finished += images

    def check(self) -> None:
        """Raises EngineDeadError when the engine is stalled."""
        with self._lock:
            silent_s = self._clock() - self._last if self.in_flight else 0.0
            limit_s = self._stall_s if self.finished else self._first_s
        if silent_s > limit_s:
            raise EngineDeadError(
                f"no image was finished for {silent_s:.0f} s, with {self.in_flight} images in the engine "
                "(FAKESWEEP_ENGINE_STALL_S)"
            )
