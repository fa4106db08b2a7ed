"""kombu's Redis transport, except that a message is never only on its way, and that each entry can be read.

kombu takes messages with BRPOP, which removes them. It then writes what it has received into Redis again, so that it
comes back when the worker is killed. If the worker is killed, or the connection breaks, between the two, the message is
nowhere. Here Redis moves each message to a list of its own in the same step, where it stays until kombu has written it.
What stays there for the visibility timeout goes back into its queue: the message may come twice. docs/decisions/0015.
"""

from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import OutOfMemoryError

from worker.redis_entries import readable

MOVING = ":moving"
"""Ends the name of the list of a queue's messages that are on their way to a worker."""

SEEN = ":moving-seen"
"""Ends the name of the sorted set that says when each of them was first seen there, in seconds of Redis' clock."""

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
"""Puts back what was seen long ago. Lists of other priorities, which a single blocking command cannot wait for, are
emptied into the queue: none of our own programs publishes with a priority.
"""


class QoS(kombu_redis.QoS):  # type: ignore[misc]  # kombu is not typed
    """Puts back what stayed on its way, whenever kombu puts back what stayed unacknowledged."""

    def restore_visible(self, *args: Any, **options: Any) -> None:
        """See kombu. It is called for one channel of a connection only."""
        super().restore_visible(*args, **options)
        for channel in self.channel.connection.channels:
            for queue in channel.active_queues:
                channel.restore_moving(queue)


class Channel(kombu_redis.Channel):  # type: ignore[misc]  # kombu is not typed
    """kombu's channel, which takes messages with BRPOPLPUSH, from one queue after another."""

    QoS = QoS
    _asked = ""

    def restore_moving(self, queue: str) -> None:
        """Puts back what has been on its way for the visibility timeout."""
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
            if entry is None:  # an empty entry is a message, too, though none that can be read
                raise Empty
            self.connection._deliver(readable(bytes(entry), queue), queue)  # noqa: SLF001 - as kombu does
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        with self.conn_or_acquire() as client:
            client.lrem(queue + MOVING, 1, entry)
        return True


class Transport(kombu_redis.Transport):  # type: ignore[misc]  # kombu is not typed
    """kombu's transport with such channels. A Redis that is full counts as one that cannot be reached."""

    Channel = Channel
    connection_errors = (*kombu_redis.Transport.connection_errors, OutOfMemoryError)
