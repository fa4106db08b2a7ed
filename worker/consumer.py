"""Celery's consumer, with a check in front of it: every message is read here before Celery reads it."""

from collections.abc import Callable
from typing import Any

import structlog
from celery.exceptions import WorkerTerminate
from celery.platforms import EX_FAILURE
from celery.worker.consumer import Consumer

from worker import broker
from worker.envelope import is_id, open_envelope
from worker.errors import BrokerUnavailableError, InvalidMessageError
from worker.lanes import queue_of
from worker.metrics.declared import DEAD_LETTERS

log = structlog.get_logger(__name__)


class DeadLetteringConsumer(Consumer):  # type: ignore[misc]  # Celery is not typed
    """Hands Celery the messages that it can read, and publishes all others to the dead letters."""

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """See Consumer. Returns the function that is called with each message.

        This function raises only errors of the connection, after which Celery connects again. Any other error would
        end the worker.
        """
        take = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:
            try:
                envelope = open_envelope(message.headers, message.body, message.content_type)
                headers, body = envelope.headers, envelope.body
            except Exception as error:  # noqa: BLE001 - the message is the cause of any error here
                self._bury(message, error)
                return
            message.headers, message.properties, message.body = headers, {}, body
            message.content_encoding = "utf-8"
            try:
                take(message)
            except self.connection_errors:
                raise  # Celery connects again
            except Exception as error:
                log.exception("message_not_taken", message_id=envelope.id)
                self._bury(message, error)

        return on_message

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Dead-letters a message whose body kombu could not decode."""
        self._bury(message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Dead-letters a message that open_envelope() accepted and Celery refuses."""
        del body
        self._bury(message, exc)

    def cancel_active_requests(self) -> None:
        """Ends the worker at a second Ctrl-C. Celery would cancel its tasks, and a thread cannot be cancelled.

        What is not acknowledged comes back to the queue.
        """
        raise WorkerTerminate(EX_FAILURE)

    def _bury(self, message: Any, error: Exception) -> None:
        reason = (
            error if isinstance(error, InvalidMessageError) else InvalidMessageError(f"{type(error).__name__}: {error}")
        )
        log.warning("message_dead_lettered", reason=str(reason))
        try:
            queue = queue_of(str((message.delivery_info or {}).get("routing_key")))
            given = (message.headers or {}).get("id", "")
            message_id = given if is_id(given) else ascii(given)[:100]
            broker.dead_letter(self.app, _text(message.body), reason, message_id, queue=queue)
        except BrokerUnavailableError as unavailable:
            log.warning("dead_letter_not_published", reason=str(unavailable))
            if not message.acknowledged:
                message.reject_log_error(log, self.connection_errors, requeue=True)
        else:
            if metrics := self.app.conf.get("metrics"):
                metrics.count(DEAD_LETTERS, queue=queue, cause="invalid")
            if not message.acknowledged:
                message.ack_log_error(log, self.connection_errors)


def _text(body: object) -> str:
    return bytes(body).decode(errors="backslashreplace") if isinstance(body, bytes | memoryview) else str(body)
