"""Celery's consumer, but for messages that it cannot read: those it drops, or rejects, which on Redis is the same."""

from typing import Any

from celery.worker.consumer import Consumer

from worker import broker


class DeadLetteringConsumer(Consumer):  # type: ignore[misc]  # Celery is not typed
    """Publishes what cannot be a task of ours to the dead letters, then acknowledges it."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """The body is not JSON, or says that it is something else."""
        self._bury(message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Celery's own fields are not as its protocol wants them."""
        del body
        self._bury(message, exc)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """The message names a task that this worker does not have."""
        del body
        self._bury(message, LookupError(f"there is no task {exc}"))

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """The message names no task."""
        del body
        self._bury(message, ValueError("the headers name no task"))

    def _bury(self, message: Any, error: Exception) -> None:
        message_id = str((message.headers or {}).get("id", ""))
        body = message.body
        payload = body.decode(errors="backslashreplace") if isinstance(body, bytes) else str(body)
        broker.dead_letter(self.app, payload, error, message_id)
        message.ack()
