"""kombu's Redis transport, except that an entry of a list which is no envelope cannot end the worker.

kombu raises when an entry is not an envelope as kombu itself writes it, and nothing catches that. Here such an entry
becomes a message whose header UNREADABLE says what is wrong, and the worker dead-letters it.
"""

import json
from base64 import b64decode, b64encode
from queue import Empty
from typing import Any
from uuid import uuid4

from kombu.transport import redis as kombu_redis
from redis import Redis

from worker.envelope import UNREADABLE

_PRIORITY_SEPARATOR = "\x06\x16"
"""Stands between the name of a queue and a priority in the names of kombu's lists."""


class ReadableRedis(Redis):
    """A client whose BRPOP gives envelopes only. kombu's own subclass, for key prefixes, hooks in at the same place."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """See redis.Redis."""
        answer = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]  # redis
        if command_name != "BRPOP" or not answer:
            return answer
        name, entry = answer
        queue = bytes(name).decode(errors="replace").partition(_PRIORITY_SEPARATOR)[0]
        return name, json.dumps(readable(bytes(entry), queue)).encode()


def readable(entry: bytes, queue: str) -> dict[str, Any]:
    """The envelope in a list's entry, with delivery fields of our own; around what is none, a new envelope.

    Each gets a delivery tag of its own, since kombu keeps what is not acknowledged by its tag.
    """
    try:
        envelope = _envelope(entry)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        envelope = {
            "body": b64encode(entry).decode(),
            "headers": {UNREADABLE: f"the list's entry is not an envelope of kombu's: {error}"},
            "properties": {"body_encoding": "base64"},
        }
    given = envelope["properties"]
    info = given.get("delivery_info")
    redelivered = isinstance(info, dict) and info.get("redelivered") is True
    own = {"exchange": "moderation", "routing_key": queue, "redelivered": redelivered}
    properties = {"delivery_tag": str(uuid4()), "delivery_info": own, "delivery_mode": 2, "priority": 0}
    if given.get("body_encoding"):
        properties["body_encoding"] = "base64"
    return envelope | {"properties": properties}


def _envelope(entry: bytes) -> dict[str, Any]:
    """Raises ValueError, TypeError, KeyError or RecursionError when kombu could not read it."""
    envelope = json.loads(entry)
    if not isinstance(envelope, dict):
        raise TypeError(f"it is of type {type(envelope).__name__}, not an object")
    for name, kind in (("body", str), ("headers", dict), ("properties", dict)):
        if not isinstance(envelope.get(name), kind):
            raise TypeError(f"{name} is missing or has another type")
    encoding = envelope["properties"].get("body_encoding")
    if encoding == "base64":
        b64decode(envelope["body"])
    elif encoding:
        raise ValueError(f"body_encoding is {encoding!r}")
    return envelope


class Channel(kombu_redis.Channel):  # type: ignore[misc]  # kombu is not typed
    """kombu's channel with such a client."""

    def _get_client(self) -> type[Redis]:
        return ReadableRedis

    def _get(self, queue: str) -> dict[str, Any]:
        with self.conn_or_acquire() as client:
            for priority in self.priority_steps:
                entry = client.rpop(self._q_for_pri(queue, priority))
                if entry:
                    return readable(bytes(entry), queue)
        raise Empty


class Transport(kombu_redis.Transport):  # type: ignore[misc]  # kombu is not typed
    """kombu's transport with such channels."""

    Channel = Channel
