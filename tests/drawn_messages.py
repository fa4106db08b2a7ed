"""Messages that nobody should publish, for RabbitMQ and for Redis: known ones, and ones drawn at random."""

import json
import math
import uuid
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import redis
from amqp import Message
from hypothesis import strategies as st
from kombu import Connection

from worker.messages import JUDGE_IMAGES


@dataclass(frozen=True)
class Sent:
    """A message that may have anything in its parts.

    `properties` are those of AMQP, or of kombu on Redis. `mark` is in its uri.
    """

    body: Any
    headers: Any
    kind: Any = "application/json"
    properties: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes | None = None
    """On Redis: the entry of the list, which replaces the envelope."""


def uri(mark: str) -> str:
    """Returns the uri of a file that does not exist. Its outcome is always `not_found`."""
    return f"file:///nowhere/{mark}.png"


def good(mark: str) -> Sent:
    """Returns a message for one image, as docs/message.md describes it."""
    job = {"version": 1, "images": [{"uri": uri(mark)}]}
    return Sent([[job], {}, {}], {"task": JUDGE_IMAGES, "id": str(uuid.uuid4())})


def known_bad(mark: str) -> dict[str, Sent]:
    """Returns every kind of message that once ended a worker or was lost, by its name."""
    sent = good(mark)
    job, headers = sent.body[0][0], sent.headers
    bodies = {
        "the body is the object itself": job, "the body is [job]": [job], "the body is null": None,
        "args 5": [5, {}, {}], "kwargs null": [[job], None, None], "kwargs": [[job], {"a": 1}, {}],
        "two args": [[job, job], {}, {}],
        "callbacks": [[job], {}, {"callbacks": [{"task": "x"}]}], "attempt 2^31": [[job | {"attempt": 2**31}], {}, {}],
        "size 10^30": [[job | {"images": [{"uri": uri(mark), "size": 10**30}]}], {}, {}],
        "half a surrogate pair": [[job | {"images": [{"uri": "s3://b/\ud800"}]}], {}, {}],
    }  # fmt: skip
    more = {
        "id a number": {"id": 12345}, "id an object": {"id": {"a": 1}}, "id null": {"id": None},
        "task a list": {"task": ["x"]}, "task unknown": {"task": "another.task"},
        "timelimit a number": {"timelimit": 5}, "eta no time": {"eta": "soon"},
        "eta far away": {"eta": "2999-01-01T00:00:00+00:00"}, "expired": {"expires": "2020-01-01T00:00:00+00:00"},
        "expires an object": {"expires": {"a": 1}}, "compression unknown": {"compression": "application/x-none"},
        "compression wrong": {"compression": "application/x-gzip"}, "compression a list": {"compression": [1]},
    }  # fmt: skip
    return (
        {name: replace(sent, body=body) for name, body in bodies.items()}
        | {name: replace(sent, headers=headers | one) for name, one in more.items()}
        | {
            "no id": replace(sent, headers={"task": JUDGE_IMAGES}),
            "no headers": replace(sent, headers={}),
            "no content type": replace(sent, kind=None),
            "content type no text": replace(sent, kind="\ud800"),
            "pickle": replace(sent, kind="application/x-python-serialize"),
        }
    )


_LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=12)
_ANYTHING = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
_HEADERS = st.sampled_from(
    ["task", "id", "eta", "expires", "timelimit", "retries", "group", "shadow", "compression", "x-delivery-count",
     "redelivered", "published_at", "root_id", "argsrepr", "stamps", "ignore_result", "sentry-trace"]
)  # fmt: skip
_TRAPS = st.one_of(
    st.integers(10, 300).map(lambda depth: json.loads("[" * depth + "]" * depth)),
    st.fixed_dictionaries({"__type__": st.sampled_from(["uuid", "datetime", "bytes", "x"]), "__value__": _ANYTHING}),
)
"""Values that make a JSON reader, or that of kombu, stop."""
_PROPERTIES = st.sampled_from(["correlation_id", "reply_to", "type", "app_id", "content_encoding"])


@st.composite
def drawn(draw: st.DrawFn) -> Sent:
    """A good message with at most two changes."""
    sent = good(uuid.uuid4().hex)
    for what in draw(
        st.lists(st.sampled_from(["headers", "drop", "body", "job", "trap", "kind", "properties", "raw"]), max_size=2)
    ):
        match what:
            case "headers":
                more = draw(st.dictionaries(_HEADERS | st.text(max_size=6), _ANYTHING, max_size=2))
                sent = replace(sent, headers=sent.headers | more)
            case "drop":
                gone = draw(st.sampled_from(["task", "id"]))
                sent = replace(sent, headers={name: one for name, one in sent.headers.items() if name != gone})
            case "body":
                sent = replace(sent, body=draw(_ANYTHING | st.lists(_ANYTHING, min_size=3, max_size=3)))
            case "job" if isinstance(sent.body, list) and sent.body and isinstance(sent.body[0], list) and sent.body[0]:
                names = st.sampled_from(["version", "scan_id", "images", "explain", "attempt", "again"])
                more = draw(st.dictionaries(names | st.text(max_size=5), _ANYTHING, min_size=1, max_size=2))
                first = sent.body[0][0]
                sent = replace(sent, body=[[first | more] if isinstance(first, dict) else [more], {}, {}])
            case "trap":
                trap, headers = draw(_TRAPS), draw(st.booleans())
                wrong: dict[str, Any] = (
                    {"headers": sent.headers | {"x": trap}} if headers else {"body": [[trap], {}, {}]}
                )
                sent = replace(sent, **wrong)
            case "kind":
                sent = replace(sent, kind=draw(st.none() | st.text(max_size=20)))
            case "properties":
                sent = replace(sent, properties=draw(st.dictionaries(_PROPERTIES, st.text(max_size=20), max_size=2)))
            case "raw":
                sent = replace(sent, raw=draw(st.binary(max_size=40) | _ANYTHING.map(lambda one: _json(one).encode())))
    return sent


def publish(url: str, queue: str, messages: list[Sent]) -> None:
    """Puts the messages into the queue as a client in another language might do it, without kombu's checks."""
    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            for sent in messages:
                client.lpush(queue, _entry(sent))
        return
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        channel = connection.channel()
        for sent in messages:
            properties = {"content_type": sent.kind, "content_encoding": "utf-8", **sent.properties}
            given = {name: _amqp_text(value) for name, value in properties.items() if value is not None}
            message = Message(
                _json(sent.body).encode(), application_headers=_amqp(sent.headers), delivery_mode=2, **given
            )
            channel.basic_publish(message, exchange="", routing_key=queue)


def _entry(sent: Sent) -> bytes:
    if sent.raw is not None:
        return sent.raw
    body = b64encode(_json(sent.body).encode("utf-8", "surrogatepass")).decode()
    own = {"body_encoding": "base64", "delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": ""}}
    envelope = {
        "body": body, "headers": sent.headers, "content-type": sent.kind, "content-encoding": "utf-8",
        "properties": own | dict(sent.properties),
    }  # fmt: skip
    return _json(envelope).encode()


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


def _amqp_text(value: Any) -> bytes:
    """Returns text that need not be UTF-8: clients in languages whose texts are bytes publish that, too."""
    return str(value).encode("utf-8", "surrogatepass")[:255]


def _amqp(value: Any) -> Any:
    """Returns the part of the value that py-amqp can write: integers of 64 bits, and names of 255 bytes."""
    if isinstance(value, dict):
        return {_amqp_text(name): _amqp(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_amqp(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if not isinstance(value, datetime) else value.isoformat()
