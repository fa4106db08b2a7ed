"""Lets one thread at a time through: those with live images first, and each kind in order."""

import heapq
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count


class Turns:
    """A lock for which live images do not queue behind scans. They wait for at most the one that holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._order = count()
        self._waiting: list[tuple[bool, int, threading.Event]] = []

    @property
    def waiting(self) -> int:
        """How many threads wait for their turn."""
        with self._lock:
            return len(self._waiting)

    @contextmanager
    def turn(self, *, live: bool) -> Iterator[None]:
        """Waits until it is this thread's turn, and keeps it while the body runs."""
        mine = threading.Event()
        with self._lock:
            heapq.heappush(self._waiting, (not live, next(self._order), mine))
            self._next()
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                self._taken = False
                self._next()

    def _next(self) -> None:
        if not self._taken and self._waiting:
            self._taken = True
            heapq.heappop(self._waiting)[2].set()
