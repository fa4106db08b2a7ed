"""kombu's Redis transport, changed so that no message is lost on its way, and that any entry of a list can be read.

kombu takes a message with BRPOP, which removes it from Redis. Then kombu writes the message into `unacked`, so that it
comes back if the worker is killed. If the worker is killed between these two steps, or the connection breaks, the
message is lost. Here Redis moves the message to a second list in one step. It stays in that list until kombu has
written it. A message that stays there for the visibility timeout goes back into its queue, so it may come twice. See
docs/decisions/0015.
"""

from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import OutOfMemoryError

from worker.redis_entries import readable

MOVING = ":moving"
"""The end of a list's name: `<queue>:moving` holds the messages of a queue that are on their way to a worker."""

SEEN = ":moving-seen"
"""The end of a sorted set's name: it says when each of these messages was first seen, in seconds of Redis' clock."""

_RESTORE = """
local queue, moving, seen = KEYS[1], KEYS[2], KEYS[3]
local now = tonumber(redis.call('TIME')[1])
for _, entry in ipairs(redis.call('LRANGE', moving, 0, -1)) do
  redis.call('ZADD', seen, 'NX', now, entry)
end
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', now - tonumber(ARGV[1]))) do
  if redis.call('LREM', moving, 1, entry) == 1 then redis.call('RPUSH', queue, entry) end
  redis.call('ZREM', seen, entry)
end
for place = 4, #KEYS do
  while redis.call('RPOPLPUSH', KEYS[place], queue) do end
end
"""
"""Puts messages back into the queue that were first seen longer ago than the visibility timeout.

It also moves all messages with a priority into the queue. kombu has a list for each priority, but one blocking command
can wait only for one list. Our own programs publish without a priority.
"""


class QoS(kombu_redis.QoS):  # type: ignore[misc]  # kombu is not typed
    """Puts back messages that stayed on their way, each time when kombu puts back unacknowledged messages."""

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """See kombu, which calls this for only one channel of a connection. So this covers all its channels."""
        super().restore_visible(*args, **options)
        for channel in self.channel.connection.channels:
            for queue in channel.active_queues:
                channel.restore_moving(queue)


class Channel(kombu_redis.Channel):  # type: ignore[misc]  # kombu is not typed
    """kombu's channel, changed so that it takes messages with BRPOPLPUSH, from one queue after another."""

    QoS = QoS
    _asked = ""

    def restore_moving(self, queue: str) -> None:
        """Puts back messages that have been on their way for the visibility timeout."""
        others = [self._q_for_pri(queue, step) for step in self.priority_steps if self._q_for_pri(queue, step) != queue]
        keys = [queue, queue + MOVING, queue + SEEN, *others]
        with self.conn_or_acquire() as client:
            client.eval(_RESTORE, len(keys), *keys, self.visibility_timeout)

    def _get(self, queue: str) -> dict[str, Any]:
        with self.conn_or_acquire() as client:
            for step in self.priority_steps:
                entry = client.rpop(self._q_for_pri(queue, step))
                if entry is not None:
                    return readable(bytes(entry), queue)
        raise Empty

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        self._asked = queues[(queues.index(self._asked) + 1) % len(queues)] if self._asked in queues else queues[0]
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        wait_s = timeout or self.brpop_timeout or 0
        self.client.connection.send_command("BRPOPLPUSH", self._asked, self._asked + MOVING, wait_s)

    def _brpop_read(self, **options: Any) -> bool:
        queue, connection = self._asked, self.client.connection
        try:
            try:
                entry = self.client.parse_response(connection, "BRPOPLPUSH", **options)
            except self.connection_errors:
                connection.disconnect()
                raise
            if entry is None:  # an empty entry is not None: it is a message that cannot be read
                raise Empty
            self.connection._deliver(readable(bytes(entry), queue), queue)  # noqa: SLF001 - as kombu does
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        with self.conn_or_acquire() as client:
            client.lrem(queue + MOVING, 1, entry)
        return True


class Transport(kombu_redis.Transport):  # type: ignore[misc]  # kombu is not typed
    """kombu's transport with these channels. A Redis that is full counts as a Redis that cannot be reached."""

    Channel = Channel
    connection_errors = (*kombu_redis.Transport.connection_errors, OutOfMemoryError)
