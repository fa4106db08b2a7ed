"""open_envelope() reads and checks Celery's headers and body around a JudgeImages message.

Nothing in them is trusted, because any program may publish to the queues. Celery's own worker stops, or loses the
message, when a header or the body is not what Celery writes. So the worker reads every message here first. Celery then
sees only `Envelope.headers` and `Envelope.body`. Their form is Celery's message protocol 2. docs/message.md describes
it for other languages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kombu.utils import json

from worker.errors import InvalidMessageError
from worker.messages import JUDGE_IMAGES

UNREADABLE = "fakesweep-unreadable"
"""The header that worker.redis_entries and worker.amqp_frames set on a message that a worker cannot read. It says why.
"""

REFUSED = "fakesweep-refused"
"""The header of a valid message that is not to be moderated: its images fail, and it becomes a dead letter."""

DELIVERIES = "x-delivery-count"
"""RabbitMQ's header on messages of quorum queues: how often the message was redelivered. Redis has none."""

PUBLISHED_AT = "published_at"
"""The header that says when a message was published. With it, waits are measured, and a wrong clock is recognised."""

SINCE = "fakesweep-since"
"""The header that tells our task since when a worker could take the message, in seconds of Unix time."""

MAX_ID_CHARACTERS = 255
MAX_WAIT = timedelta(minutes=25)
"""The longest time that a worker keeps a message until its ETA.

It is longer than the longest delay that a worker asks for (22.5 minutes). It is shorter than the 30 minutes after which
RabbitMQ takes a message back from a worker.
"""

MAX_DEPTH = 20
"""How many levels of lists and objects a body may have. A valid message has five.

Python's JSON fails at about a thousand levels, or earlier when the stack is already deep.
"""

_BELIEVED = (timedelta(days=30), timedelta(minutes=1))
"""How long ago a message may have been published, and how far clocks may differ. One wrong clock among the publishers
would spoil the sum of all measurements.
"""

_NOT_SUPPORTED = ("callbacks", "errbacks", "chain", "chord")


@dataclass(frozen=True)
class Envelope:
    """A message that Celery can read. `payload` is the JudgeImages object, which is not checked yet.

    `eta` is the time when the message must be handled; None means now. `deliveries` counts how often the message was
    redelivered, 0 if that is not known. `refused` says why the message must not be moderated. `since` is when a worker
    could take the message for the first time, None if that is not known.
    """

    id: str
    payload: Any
    eta: datetime | None
    deliveries: int
    refused: str | None = None
    since: datetime | None = None

    @property
    def headers(self) -> dict[str, Any]:
        """New headers for Celery, which hold only what this envelope knows."""
        eta = {"eta": self.eta.isoformat()} if self.eta else {}
        refused = {REFUSED: self.refused} if self.refused else {}
        since = {SINCE: self.since.timestamp()} if self.since else {}
        return {"task": JUDGE_IMAGES, "id": self.id, DELIVERIES: self.deliveries, **eta, **refused, **since}

    @property
    def body(self) -> bytes:
        """Celery's body: args, kwargs and options, as JSON."""
        return bytes(json.dumps([[self.payload], {}, {}]), "utf-8")


def open_envelope(
    headers: Mapping[Any, Any], body: bytes | str | None, content_type: object, *, now: datetime | None = None
) -> Envelope:
    """Reads the headers and the body of a message, and returns what Celery may see of them.

    A message that has expired, or whose ETA is too far away, is `refused`. But if the publisher asked for a short wait,
    its clock or ours is wrong, and the message is handled now. `now` is a time with a zone; the default is
    the current time.
    Raises InvalidMessageError with the reason when the message is not as docs/message.md says.
    """
    now = now or datetime.now(UTC)
    if UNREADABLE in headers:
        raise InvalidMessageError(str(headers[UNREADABLE]))
    _check_task(headers)
    _check_limits(headers)
    message_id = _id(headers)
    if content_type != "application/json":
        raise InvalidMessageError(f"the content type must be application/json, not {_shown(content_type)}")
    expires, eta = _time(headers, "expires", now), _time(headers, "eta", now)
    refused = None
    if expires and expires <= (eta or now):
        refused = f"the message expired at {expires.isoformat()}"
    elif eta and eta > now + MAX_WAIT and _wait_is_short(headers, eta, now):
        eta = None
    elif eta and eta > now + MAX_WAIT:
        minutes = int(MAX_WAIT.total_seconds() // 60)
        refused = f"eta {eta.isoformat()} is more than {minutes} minutes away: publish the message later"
    waits = eta is not None and eta > now and not refused
    since = _since(headers, eta, now)
    return Envelope(message_id, _payload(body), eta if waits else None, _deliveries(headers), refused, since)


def without_compression(headers: Mapping[Any, Any]) -> dict[Any, Any]:
    """Returns the headers without `compression`, so that kombu unpacks nothing.

    Otherwise a small compressed body could fill the memory before the message is read here. A compressed message gets
    the header UNREADABLE. If the publisher has set one of our own headers, UNREADABLE or REFUSED, it is removed.
    """
    given = {name: value for name, value in headers.items() if name not in {"compression", UNREADABLE, REFUSED}}
    if headers.get("compression"):
        given[UNREADABLE] = "compressed messages are not supported: publish without the header compression"
    return given


def _check_task(headers: Mapping[Any, Any]) -> None:
    if headers.get("task") is None:
        raise InvalidMessageError(f"the headers name no task: the header task must be {JUDGE_IMAGES}")
    if headers["task"] != JUDGE_IMAGES:
        raise InvalidMessageError(f"the header task must be {JUDGE_IMAGES}, not {_shown(headers['task'])}")


def _check_limits(headers: Mapping[Any, Any]) -> None:
    """Checks the header `timelimit`, which Celery's producers send: two numbers or nulls.

    It has no effect here. Any other value is refused, because Celery's worker could not unpack it.
    """
    limit = headers.get("timelimit")
    if limit is None:
        return
    two = isinstance(limit, list | tuple) and len(limit) == len(("hard", "soft"))
    if not two or not all(one is None or isinstance(one, int | float) for one in limit):
        raise InvalidMessageError(f"the header timelimit must be two numbers or nulls, not {_shown(limit)}")


def _id(headers: Mapping[Any, Any]) -> str:
    message_id = headers.get("id")
    if is_id(message_id):
        return str(message_id)
    raise InvalidMessageError(
        f"the header id must be text of 1 to {MAX_ID_CHARACTERS} characters, such as a UUID, not {_shown(message_id)}"
    )


def is_id(value: object) -> bool:
    """Whether a message may have this id.

    Postgres and JSON must be able to hold it: it is text without NUL characters and without halves of surrogate pairs.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARACTERS:
        return False
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _time(headers: Mapping[Any, Any], name: str, now: datetime) -> datetime | None:
    value = headers.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
        if isinstance(value, int | float) and name == "expires":  # Celery allows seconds from now
            return now + timedelta(seconds=value)
    except (ValueError, OverflowError):
        pass
    raise InvalidMessageError(f"the header {name} must be a time in ISO 8601, not {_shown(value)}")


def _wait_is_short(headers: Mapping[Any, Any], eta: datetime, now: datetime) -> bool:
    """Whether the publisher asked for a wait of at most MAX_WAIT. Both times are from the publisher's own clock."""
    try:
        published = _time(headers, PUBLISHED_AT, now)
    except InvalidMessageError:
        return False
    return published is not None and timedelta(0) <= eta - published <= MAX_WAIT


def _since(headers: Mapping[Any, Any], eta: datetime | None, now: datetime) -> datetime | None:
    """Returns when the message was published, or its ETA when that is later. None if this time cannot be right."""
    try:
        published = _time(headers, PUBLISHED_AT, now)
    except InvalidMessageError:
        return None  # nobody loses an image over a measurement
    if published is None or not now - _BELIEVED[0] <= published <= now + _BELIEVED[1]:
        return None
    return max(published, eta) if eta else published


def _payload(body: bytes | str | None) -> Any:
    try:
        # kombu's JSON, because Celery's producers write UUIDs in kombu's own form. A wrong form may raise any error.
        content = json.loads(body or b"")
    except Exception as error:
        raise InvalidMessageError(f"the body is not JSON in UTF-8: {error}") from error
    if is_deep(content):
        raise InvalidMessageError(f"the body is nested in more than {MAX_DEPTH} levels")
    match content:
        case [[payload], kwargs, options] if _is_empty(kwargs) and _has_no(options):
            return payload
    raise InvalidMessageError(
        "the body must be [[message], {}, {}]: the task takes one positional argument, the JudgeImages object, "
        "and Celery's callbacks, chains and chords are not supported"
    )


def is_deep(value: object) -> bool:
    """Whether lists and objects are nested in more than MAX_DEPTH levels."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, list | tuple | dict)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True


def _is_empty(kwargs: object) -> bool:
    return isinstance(kwargs, dict) and not kwargs


def _has_no(options: object) -> bool:
    return isinstance(options, dict) and not any(options.get(name) for name in _NOT_SUPPORTED)


def _deliveries(headers: Mapping[Any, Any]) -> int:
    count = headers.get(DELIVERIES, 0)
    return count if isinstance(count, int) and count > 0 else 0


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:100]}…"  # noqa: PLR2004 - for a person
