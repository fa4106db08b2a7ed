"""The messages that this process works on. A broker hands a message over again when its connection was lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

_LOOK_AGAIN_S = 1.0


class InHand:
    """One thread at a time works on a message. A second delivery of it waits, and finds its images decided."""

    def __init__(self) -> None:
        self._working: set[UUID] = set()
        self._changed = threading.Condition()

    @contextmanager
    def only(self, message_id: UUID, check: Callable[[], None]) -> Iterator[bool]:
        """Runs the body when no other thread works on the message. Yields whether one did.

        `check` is called while it waits, and may raise to give up.
        """
        with self._changed:
            waited = message_id in self._working
            while message_id in self._working:
                check()
                self._changed.wait(_LOOK_AGAIN_S)
            self._working.add(message_id)
        try:
            yield waited
        finally:
            with self._changed:
                self._working.remove(message_id)
                self._changed.notify_all()
