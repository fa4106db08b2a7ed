"""Ends a run early. The first cause counts, and every thread learns of it before its next request."""

import threading


class Stop:
    """Stops all threads of a run that share it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._cause: BaseException | None = None

    def because(self, cause: BaseException) -> None:
        """Stops the run. The first cause is kept."""
        with self._lock:
            self._cause = self._cause or cause
        self._event.set()

    def check(self) -> None:
        """Raises the cause if the run was stopped."""
        if self._cause:
            raise self._cause

    def wait(self, seconds: float) -> None:
        """Sleeps. Raises the cause as soon as the run is stopped."""
        self._event.wait(seconds)
        self.check()
