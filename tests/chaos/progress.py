"""Watches how many images have an outcome, so that the report can say how long it took to recover from a fault."""

import threading
import time
from bisect import bisect_right
from typing import Self

import psycopg

EVERY_S = 0.1


class Progress:
    """Watches a database while the `with` block runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self.steps: list[float] = []
        """The moments at which there were more outcomes than before, in seconds of the monotonic clock."""
        self.decided = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def next_after(self, moment: float) -> float | None:
        """Returns the seconds from that moment to the next outcome, or None if there was none."""
        place = bisect_right(self.steps, moment)
        return self.steps[place] - moment if place < len(self.steps) else None

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                with psycopg.connect(self._url, connect_timeout=2, autocommit=True) as connection:
                    while not self._ended.wait(EVERY_S):
                        self._look(connection)
            except psycopg.Error:
                self._ended.wait(EVERY_S)

    def _look(self, connection: psycopg.Connection) -> None:
        row = connection.execute("SELECT sum(judged + reused + failed) FROM scans").fetchone()
        decided = int(row[0] or 0) if row else 0
        if decided > self.decided:
            self.steps.append(time.monotonic())
        self.decided = decided
