"""Makes an envelope of each entry of a list in Redis, so that one which is none cannot end the worker.

kombu raises when an entry is not an envelope as kombu itself writes it, and nothing catches that. Here such an entry
becomes a message whose header UNREADABLE says what is wrong, and the worker dead-letters it.
"""

import json
from base64 import b64decode, b64encode
from typing import Any
from uuid import uuid4

from worker.envelope import UNREADABLE


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
