"""How a run ends before its time: the first cause counts, and every thread learns of it before its next request."""

import threading


class Stop:
    """Shared by all threads of a run."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._cause: BaseException | None = None

    def because(self, cause: BaseException) -> None:
        """Stop. The first cause is kept."""
        with self._lock:
            self._cause = self._cause or cause
        self._event.set()

    def check(self) -> None:
        """Raises the cause, once there is one."""
        if self._cause:
            raise self._cause

    def wait(self, seconds: float) -> None:
        """Sleep; raises the cause as soon as there is one."""
        self._event.wait(seconds)
        self.check()
