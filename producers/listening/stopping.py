"""Stopping on SIGTERM and SIGINT: a wait is broken off, and what is in hand is finished."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _StopAsked(BaseException):
    """Leaves a wait. Not an Exception: botocore would wrap it as a network error and try again."""


class Stop:
    """Whether a signal asked to stop. It breaks waits off, and nothing else: what is in hand is finished."""

    def __init__(self) -> None:
        self.asked = False
        self._idle = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        self.asked = True
        if self._idle:
            raise _StopAsked

    @contextmanager
    def idle(self) -> Iterator[None]:
        """A stretch of waiting. What SQS gave at that very moment it gives again after the visibility timeout."""
        self._idle = True  # before the look: a signal between the two would wait for the end of the wait
        try:
            if self.asked:
                raise _StopAsked
            yield
        finally:
            self._idle = False

    def sleep(self, seconds: float) -> None:
        """time.sleep, broken off by a signal."""
        with self.idle():
            time.sleep(seconds)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """SIGTERM and SIGINT end the body where it waits, or at its next look at `asked`."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    except _StopAsked:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
