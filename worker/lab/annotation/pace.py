"""Limits the rate of requests to one endpoint.

A limiter from a library would count the calls of this program. We must count every request that leaves, including
retries, so this sits in the HTTP client's hooks. To space requests evenly, it needs only a clock.
"""

import threading
import time
from collections.abc import Callable


class Pace:
    """At most `per_minute` requests per minute, evenly spaced, over all threads. `wait` sleeps for some seconds."""

    def __init__(
        self, per_minute: float, wait: Callable[[float], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = 60 / per_minute
        self._wait, self._clock = wait, clock
        self._lock = threading.Lock()
        self._free_from = clock()

    def take(self) -> None:
        """Returns when a request may be sent."""
        while left := self._left():
            self._wait(left)

    def pause(self, seconds: float) -> None:
        """Lets no request start for so many seconds, because the endpoint asked for a pause (Retry-After)."""
        with self._lock:
            self._free_from = max(self._free_from, self._clock() + seconds)

    def _left(self) -> float:
        """Returns the seconds until a request may start. If it may start now, takes the turn and returns 0."""
        with self._lock:
            now = self._clock()
            if self._free_from > now:
                return self._free_from - now
            self._free_from = now + self._interval_s
            return 0
