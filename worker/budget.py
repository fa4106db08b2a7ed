"""A budget of bytes that bounds the worker's memory, with a part that only live images may use."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from worker.errors import ConfigurationError, ShuttingDownError
from worker.messages import MAX_IMAGES
from worker.settings import Settings

HELD_BYTES = 32 * 2**20
"""When the fetched files of a message have this many bytes together, they are decoded before more are fetched."""

LIVE_SHARE = 0.25
"""The share of each budget that scans never use, so that a live image does not wait for scans."""

_FILES_SHARE = 0.25
_VALUE_BYTES = 5
"""Bytes for each colour value of an image in hand: one in its square, four as the float32 that the engine gets. The
floats of a message are one block, which lives as long as its slowest image, so all of them may exist at once.
"""


class Budget:
    """A budget of `total` bytes. Threads wait until their bytes are free: live images first, then scans, each kind in
    order.

    Within a kind, the order is kept, so that a large request is not delayed for ever. When the worker stops, waiting
    threads give up.
    """

    def __init__(self, total: int) -> None:
        self._limits = {True: total, False: total - round(total * LIVE_SHARE)}
        self._used = 0
        self._waiting: dict[bool, deque[_Request]] = {True: deque(), False: deque()}
        self._changed = threading.Condition()
        self._stopping = False

    def limit(self, *, live: bool) -> int:
        """The largest request that can be granted, in bytes."""
        return self._limits[live]

    @contextmanager
    def take(self, size: int, *, live: bool = False) -> Iterator["Held"]:
        """Holds `size` bytes while the body runs. Raises ShuttingDownError if the worker stops first, and
        ValueError for more than `limit`, which would wait for ever.
        """
        if size > self._limits[live]:
            raise ValueError(f"{size} bytes of {self._limits[live]}")
        request = _Request(size)
        with self._changed:
            self._waiting[live].append(request)
            try:
                self._changed.wait_for(lambda: self._stopping or self._is_next(request, live=live))
            finally:
                self._waiting[live].remove(request)
            if self._stopping:
                raise ShuttingDownError("the worker is stopping")
            self._used += size
            self._changed.notify_all()  # there may be room for the next one, too
        held = Held(self, size)
        try:
            yield held
        finally:
            held.shrink(0)

    def _is_next(self, request: "_Request", *, live: bool) -> bool:
        if self._waiting[live][0] is not request or self._used + request.size > self._limits[live]:
            return False
        first_live = self._waiting[True][0] if self._waiting[True] else None
        return live or first_live is None or self._used + request.size + first_live.size <= self._limits[True]

    def give_back(self, size: int) -> None:
        """Frees `size` bytes."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def check(self) -> None:
        """Raises ShuttingDownError if the worker is stopping. Call it before each image."""
        if self._stopping:
            raise ShuttingDownError("the worker is stopping")

    def stop(self) -> None:
        """Starts nothing new from now on. Work that holds bytes is finished."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()


@dataclass(eq=False)
class _Request:
    """A thread that waits for `size` bytes."""

    size: int


@dataclass
class Held:
    """Bytes of a budget that a thread holds."""

    budget: Budget
    size: int

    def shrink(self, size: int) -> None:
        """Keeps only `size` bytes and frees the others."""
        if size < self.size:
            freed, self.size = self.size - size, size
            self.budget.give_back(freed)


@dataclass(frozen=True)
class Memory:
    """The budgets of a worker: one for fetched files that are not decoded yet, and one for the memory of decoders."""

    files: Budget
    pixels: Budget


def divide_memory(settings: Settings, threads: int, edge: int) -> Memory:
    """Divides FAKESWEEP_IMAGE_MEMORY_MIB: first what `threads` messages keep for the engine, then files and pixels.

    Raises ConfigurationError if it is not enough.
    """
    kept = threads * MAX_IMAGES * 3 * edge * edge * _VALUE_BYTES
    left = settings.image_memory_mib * 2**20 - kept
    files = Budget(max(0, round(left * _FILES_SHARE)))
    group = HELD_BYTES + settings.max_bytes
    if files.limit(live=False) < group:
        least = kept + group / (1 - LIVE_SHARE) / _FILES_SHARE
        raise ConfigurationError(
            f"FAKESWEEP_IMAGE_MEMORY_MIB is {settings.image_memory_mib}, and {threads} threads with files of up to "
            f"{settings.max_bytes} bytes need {round(least / 2**20) + 1}: raise it, or lower FAKESWEEP_THREADS or "
            "FAKESWEEP_MAX_BYTES"
        )
    return Memory(files, Budget(left - files.limit(live=True)))
