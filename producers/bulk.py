"""Publishes many messages at once: they are sent one after the other and confirmed together."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Self
from uuid import uuid4

from celery import Celery
from kombu import Connection, Producer
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from worker import broker
from worker.errors import BrokerUnavailableError
from worker.messages import JUDGE_IMAGES

UNCONFIRMED = 125
"""How many messages are sent before their confirmations are awaited: 2,000 images."""

CONFIRM_TIMEOUT_S = 30.0
LOOK_AGAIN_S = 0.5


class BulkPublisher:
    """One connection to the broker. As a context manager, it closes the connection at the end.

    Celery's `send_task`, and kombu with `confirm_publish`, wait for the confirmation of each message before they send
    the next one, and RabbitMQ confirms only when the message is on disk. Here, many messages are sent first. The
    messages are those of docs/message.md.

    If the broker goes away, the publisher waits up to `patience_s` for it to come back. Then it sends again what was
    not confirmed, so a message may be published twice.
    """

    def __init__(
        self,
        app: Celery,
        *,
        max_depth: int,
        patience_s: float = 300,
        warn: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._app, self._max_depth, self._patience_s, self._warn = app, max_depth, patience_s, warn
        self._open: tuple[Connection, Producer, _Confirmations | None] | None = None
        self._lost_at: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the next message opens another."""
        if self._open:
            connection, self._open = self._open[0], None
            connection.release()

    def publish(
        self, queue: str, messages: Sequence[dict[str, Any]], *, waiting: Callable[[], None] = lambda: None
    ) -> None:
        """Publishes JudgeImages objects and returns when the broker has all of them.

        While the queue is full, it waits and calls `waiting` twice a second. `waiting` may raise an error to stop the
        waiting.

        Raises BrokerUnavailableError when the broker stays away.
        """
        # A quarter of the bound: workers have messages to take while the next ones wait for room.
        size = max(1, min(UNCONFIRMED, self._max_depth // 4))
        for start in range(0, len(messages), size):
            for attempt in self._attempts():
                with attempt:
                    self._publish(queue, messages[start : start + size], waiting)

    def _attempts(self) -> Iterator[Any]:
        yield from Retrying(
            retry=retry_if_exception_type(BrokerUnavailableError),
            stop=lambda _state: time.monotonic() - (self._lost_at or 0) > self._patience_s,
            wait=wait_random_exponential(max=10),
            before_sleep=self._say_lost,
            reraise=True,
        )

    def _say_lost(self, state: RetryCallState) -> None:
        self._warn(f"the broker is away, trying again: {state.outcome and state.outcome.exception()}")

    def _publish(self, queue: str, messages: Sequence[dict[str, Any]], waiting: Callable[[], None]) -> None:
        try:
            while not self._room(queue, len(messages)):
                waiting()
                time.sleep(LOOK_AGAIN_S)
            with broker.unavailable():
                self._send(queue, messages)
        except BrokerUnavailableError:
            self._lost_at = self._lost_at or time.monotonic()
            with suppress(Exception):  # the connection is broken anyway, and each transport fails in its own way
                self.close()
            raise

    def _room(self, queue: str, count: int) -> bool:
        with broker.unavailable():
            depth = broker.waiting(self._opened()[0].default_channel, queue)
        self._lost_at = None  # the broker answers, so the time starts again
        return depth + count <= self._max_depth

    def _send(self, queue: str, messages: Sequence[dict[str, Any]]) -> None:
        _connection, producer, confirmations = self._opened()
        headers = {"task": JUDGE_IMAGES, **broker.published_now()}  # they are all sent within milliseconds
        for message in messages:
            message_id = str(uuid4())
            if confirmations:
                confirmations.expect()
            producer.publish(
                [[message], {}, {}], exchange=broker.EXCHANGE, routing_key=queue, serializer="json", delivery_mode=2,
                headers={**headers, "id": message_id}, correlation_id=message_id, mandatory=True,
            )  # fmt: skip
        if confirmations:
            confirmations.wait()

    def _opened(self) -> tuple[Connection, Producer, "_Confirmations | None"]:
        if self._open is None:
            # Without confirm_publish, which waits after each message.
            connection = self._app.connection_for_write()
            connection.transport_options = {**connection.transport_options, "confirm_publish": False}
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
            broker.declare_queues(connection)
            channel = connection.default_channel
            confirmations = _Confirmations(connection) if hasattr(channel, "confirm_select") else None
            self._open = (connection, Producer(channel, auto_declare=False), confirmations)
        return self._open


class _Confirmations:
    """Publisher confirms of RabbitMQ on a channel (https://www.rabbitmq.com/docs/confirms), awaited for many messages
    at once.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: set[int] = set()
        self._sent = self._refused = 0
        channel = connection.default_channel
        channel.confirm_select()
        channel.events["basic_ack"].add(self._confirm)
        channel.events["basic_nack"].add(self._refuse)
        channel.events["basic_return"].add(self._give_back)

    def expect(self) -> None:
        """Counts a message before it is sent. RabbitMQ counts in the same way: from 1, on each channel."""
        self._sent += 1
        self._waiting.add(self._sent)

    def wait(self) -> None:
        """Returns when every message is confirmed. Raises BrokerUnavailableError if the broker refused one."""
        until = time.monotonic() + CONFIRM_TIMEOUT_S
        while self._waiting:
            self._connection.drain_events(timeout=max(0.1, until - time.monotonic()))
        if self._refused:
            raise BrokerUnavailableError(f"BROKER_URL: the broker refused {self._refused} messages")

    def _confirm(self, tag: int, multiple: bool) -> None:
        self._waiting -= set(range(min(self._waiting, default=tag), tag + 1)) if multiple else {tag}

    def _refuse(self, tag: int, multiple: bool) -> None:
        self._refused += 1
        self._confirm(tag, multiple)

    def _give_back(self, *_: Any) -> None:
        """Called for a `mandatory` message that no queue took. RabbitMQ still confirms it."""
        self._refused += 1
