"""Makes a kombu envelope of any entry of a Redis list, so that no entry can end the worker.

kombu expects an envelope that kombu wrote. For any other entry it raises an error that nothing catches. Here such an
entry becomes a message whose header UNREADABLE says what is wrong. The worker dead-letters this message.
"""

import json
from base64 import b64decode, b64encode
from typing import Any
from uuid import uuid4

from kombu.utils import json as kombu_json

from worker.envelope import MAX_DEPTH, UNREADABLE, is_deep, without_compression

_FIELDS = ("body", "content-type", "content-encoding", "properties")


def readable(entry: bytes, queue: str) -> dict[str, Any]:
    """Returns the envelope in an entry of a list. If the entry is not an envelope, returns a new one around the entry.

    The fields about the delivery are always ours. Each envelope gets a new delivery tag, because kombu stores
    unacknowledged messages by their tag.
    """
    try:
        envelope = _envelope(entry)
        kombu_json.loads(kombu_json.dumps(envelope))  # as kombu does when a message goes back to its queue
    except Exception as error:  # noqa: BLE001 - the entry may be anything, and reading it may raise anything
        envelope = {
            "body": b64encode(entry).decode(),
            "headers": {UNREADABLE: f"the entry of the Redis list is not a kombu envelope: {error}"},
            "properties": {"body_encoding": "base64"},
        }
    given = envelope["properties"]
    info = given.get("delivery_info")
    redelivered = isinstance(info, dict) and info.get("redelivered") is True
    own = {"exchange": "moderation", "routing_key": queue, "redelivered": redelivered}
    texts = {name: given[name] for name in ("correlation_id", "reply_to") if isinstance(given.get(name), str)}
    properties = texts | {"delivery_tag": str(uuid4()), "delivery_info": own, "delivery_mode": 2, "priority": 0}
    if given.get("body_encoding"):
        properties["body_encoding"] = "base64"
    return envelope | {"properties": properties}


def _envelope(entry: bytes) -> dict[str, Any]:
    """Returns the parts of an envelope that are read. Raises an error if kombu or a worker could not read them."""
    envelope = json.loads(entry)
    if not isinstance(envelope, dict):
        raise TypeError(f"it is of type {type(envelope).__name__}, not an object")
    for name, kind in (("body", str), ("headers", dict), ("properties", dict)):
        if not isinstance(envelope.get(name), kind):
            raise TypeError(f"{name} is missing or has another type")
    if is_deep(envelope):
        raise ValueError(f"it is nested in more than {MAX_DEPTH} levels")
    encoding = envelope["properties"].get("body_encoding")
    if encoding == "base64":
        b64decode(envelope["body"])
    elif encoding:
        raise ValueError(f"body_encoding is {encoding!r}")
    return {name: envelope.get(name) for name in _FIELDS} | {"headers": without_compression(envelope["headers"])}
