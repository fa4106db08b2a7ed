"""The limit of images in flight, which bounds the worker's memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from worker.errors import ShuttingDownError


class Slots:
    """Room for `total` images. Threads wait for theirs; when the worker stops, those that wait give up."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._changed = threading.Condition()
        self._stopping = False

    @contextmanager
    def take(self, images: int) -> Iterator[None]:
        """Holds `images` slots while the body runs. Raises ShuttingDownError when the worker stops first."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._free >= images)
            if self._stopping:
                raise ShuttingDownError("the worker is stopping")
            self._free -= images
        try:
            yield
        finally:
            with self._changed:
                self._free += images
                self._changed.notify_all()

    def check(self) -> None:
        """Raises ShuttingDownError when the worker is stopping; asked before each image that is not begun yet."""
        if self._stopping:
            raise ShuttingDownError("the worker is stopping")

    def stop(self) -> None:
        """From now on nothing new is started; what holds slots goes on to its end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
