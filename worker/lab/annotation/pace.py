"""A bounded rate of requests to one endpoint.

A limiter of a library would count the calls of this program. What has to be counted is every request that leaves,
repeated ones included, so this sits in the HTTP client's hooks; spacing them evenly needs no more than a clock.
"""

import threading
import time
from collections.abc import Callable


class Pace:
    """At most `per_minute` requests a minute, evenly spaced, over all threads. `wait` sleeps for so many seconds."""

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
        """The endpoint asked for a pause (Retry-After): no turn is given before it is over."""
        with self._lock:
            self._free_from = max(self._free_from, self._clock() + seconds)

    def _left(self) -> float:
        """Seconds until a turn may be taken; takes it when there are none."""
        with self._lock:
            now = self._clock()
            if self._free_from > now:
                return self._free_from - now
            self._free_from = now + self._interval_s
            return 0
