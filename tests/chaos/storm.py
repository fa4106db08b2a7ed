"""Causes random faults while a scan runs, a few at a time. Each is healed after at most a few seconds."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

from tests.chaos.faults import Kind
from tests.chaos.ground import Ground

AT_ONCE = 3
GAP_S = (0.05, 0.5)
"""Seconds between the beginnings of two faults: the shortest and the longest time."""


@dataclass(frozen=True)
class Fault:
    """A fault that was caused. Times are in seconds of the monotonic clock. `met`: whether anything noticed it."""

    kind: str
    caused_at: float
    healed_at: float
    met: bool
    error: str | None = None


class Storm:
    """Draws faults of these kinds at random, causes them and heals them."""

    def __init__(self, ground: Ground, kinds: Sequence[Kind], chance: Random) -> None:
        self._ground, self._kinds, self._chance = ground, kinds, chance
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def until(self, over: Callable[[], bool], longest_s: float) -> list[Fault]:
        """Causes faults until over() is true, or for `longest_s`. At the end all are healed. Returns the faults."""
        end = time.monotonic() + longest_s
        futures: list[Future[Fault]] = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while time.monotonic() < end and not over():
                if kind := self._draw():
                    futures.append(pool.submit(self._cause, kind, Random(self._chance.random())))
                time.sleep(self._chance.uniform(*GAP_S))
        return [future.result() for future in futures]

    def _draw(self) -> Kind | None:
        kind = self._chance.choices(self._kinds, [one.weight for one in self._kinds])[0]
        with self._lock:
            if kind.place in self._busy or len(self._busy) >= AT_ONCE:
                return None
            self._busy.add(kind.place)
        return kind

    def _cause(self, kind: Kind, chance: Random) -> Fault:
        caused_at, met, error = time.monotonic(), False, None
        try:
            heal = kind.cause(self._ground, chance)
            try:
                time.sleep(chance.uniform(0.2, 1) * kind.longest_s)
            finally:
                met = heal()
        except Exception as failure:  # for example, another fault has made the database unreachable
            error = f"{type(failure).__name__}: {failure}"
        finally:
            with self._lock:
                self._busy.discard(kind.place)
        return Fault(kind.name, caused_at, time.monotonic(), met, error)
