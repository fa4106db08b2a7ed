"""Whether a worker listens to a queue. So people who wait for images learn when nobody will judge them."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from worker import broker
from worker.errors import BrokerUnavailableError

if TYPE_CHECKING:
    from celery import Celery

LOOK_EVERY_S = 15.0
"""How often the broker is asked while somebody waits."""

_TAKES = "brpoplpush"
"""The command with which a worker waits for messages on Redis: see worker.redis_moving."""


def listeners(app: "Celery", queue: str) -> int | None:
    """Returns how many consumers a queue has. None if the broker does not say it.

    RabbitMQ counts them. On Redis these are the clients of the same database that wait for a message, whatever the
    queue; while all of them may be busy, the number is None. Other brokers do not say it.
    Raises ConfigurationError when BROKER_URL cannot be understood, and BrokerUnavailableError.
    """
    connection = broker.check_url(app)
    with broker.unavailable(), connection:
        connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
        channel = connection.default_channel
        if connection.transport.driver_type == "amqp":
            return _on_rabbitmq(connection, channel, queue)
        return _on_redis(channel) if connection.transport.driver_type == "redis" else None


def _on_rabbitmq(connection: Any, channel: Any, queue: str) -> int:
    try:
        return int(channel.queue_declare(queue, passive=True).consumer_count)
    except connection.channel_errors as error:
        if getattr(error, "reply_code", None) == 404:  # noqa: PLR2004 - as AMQP has it: there is no such queue yet
            return 0
        raise


def _on_redis(channel: Any) -> int | None:
    from redis.exceptions import ResponseError  # noqa: PLC0415 - RabbitMQ needs no client of Redis

    client = channel.client
    number = str(client.connection_pool.connection_kwargs.get("db") or 0)
    try:
        there = [one for one in client.client_list() if one.get("db") == number]
    except ResponseError:  # this user has no right to list clients
        return None
    waiting = sum(one.get("cmd") == _TAKES for one in there)
    # A worker whose threads all have a message does not wait for another one.
    return waiting or (None if client.hlen(channel.unacked_key) else 0)


class Attendance:
    """Says when no worker listens to a queue, and does not repeat it before one has listened.

    `ask` returns how many listen; None when that is not known. `look` may be called as often as one likes: the broker
    is asked every 15 seconds at most. `clock` gives seconds.
    """

    def __init__(
        self,
        queue: str,
        ask: Callable[[], int | None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue, self._ask, self._say, self._clock = queue, ask, say, clock
        self._due: float | None = None
        self._said = False

    def look(self) -> None:
        """Asks, if it is time to ask. Does not raise errors of the broker: publishing raises them."""
        if self._due is not None and self._clock() < self._due:
            return
        self._due = self._clock() + LOOK_EVERY_S
        try:
            absent = self._ask() == 0
        except BrokerUnavailableError:
            return
        if absent and not self._said:
            self._say(absence(self._queue))
        self._said = absent


def absence(queue: str) -> str:
    """Says that no worker listens to the queue, and what to do."""
    return (
        f"no worker listens to the queue {queue}: start one with `fakesweep worker`. A worker that has just been "
        "started listens when its model is loaded"
    )
