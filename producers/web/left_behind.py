"""A thread of the web process that publishes messages that requests left behind."""

import threading
from typing import TYPE_CHECKING

import structlog

from producers.left_behind import publish_left_behind
from worker.database import Database
from worker.errors import TransientError

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 30.0


class LeftBehind:
    """Looks for such messages when it is started, and then at intervals until it is closed."""

    def __init__(self, app: "Celery", database: Database, *, every_s: float = LOOK_EVERY_S) -> None:
        self._app, self._database, self._every_s = app, database, every_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="left-behind", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread. Messages that are not published by then stay in `unpublished`."""
        self._closed.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while True:
            try:
                publish_left_behind(self._app, self._database)
            except TransientError as error:
                log.warning("left_behind_waits", reason=str(error))
            except Exception:
                log.exception("left_behind_failed")
            if self._closed.wait(self._every_s):
                return
