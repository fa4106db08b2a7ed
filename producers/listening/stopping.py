"""Stops on SIGTERM and SIGINT: interrupts a wait, but finishes the work in hand."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _StopAsked(BaseException):
    """Interrupts a wait. It is not an Exception: botocore would wrap it as a network error and retry."""


class Stop:
    """Whether a signal asked to stop. It interrupts waits only: work in hand is finished."""

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
        """A time of waiting. If SQS hands over a message at the moment of the signal, it delivers it again later."""
        self._idle = True  # set before the check: a signal between the two would wait for the end of the wait
        try:
            if self.asked:
                raise _StopAsked
            yield
        finally:
            self._idle = False

    def sleep(self, seconds: float) -> None:
        """Sleeps like time.sleep, but a signal interrupts it."""
        with self.idle():
            time.sleep(seconds)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Lets SIGTERM and SIGINT end the body while it waits, or when it next checks `asked`."""
    stop = Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    except _StopAsked:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
