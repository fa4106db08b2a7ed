"""How many images have an outcome, looked up again and again, so that the time to recover can be told."""

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
        """When there were more outcomes than before, in seconds of the monotonic clock."""
        self.decided = 0

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def next_after(self, moment: float) -> float | None:
        """Seconds from that moment to the next outcome; None when there was none."""
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
