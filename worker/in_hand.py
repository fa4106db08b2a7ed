"""The messages in hand, which are those that this process is working on.

If a connection to the broker is lost, the broker delivers its messages again, perhaps to the same process.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

_LOOK_AGAIN_S = 1.0


class InHand:
    """Lets only one thread at a time work on a message. A second delivery waits, and then finds its images decided."""

    def __init__(self) -> None:
        self._working: set[UUID] = set()
        self._changed = threading.Condition()

    @contextmanager
    def only(self, message_id: UUID, check: Callable[[], None]) -> Iterator[bool]:
        """Waits until no other thread works on the message, and runs the body. Yields whether it had to wait.

        While it waits, it calls `check` again and again. If `check` raises an error, it stops waiting.
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
