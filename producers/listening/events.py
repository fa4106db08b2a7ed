"""Reads the body of an SQS message about S3: which images are new, what is ignored, and what cannot be understood.

It reads S3's event notifications, EventBridge's events, and the test event that S3 sends when notifications are set up.
Each of them may be wrapped by SNS. Nothing here uses the network.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from pydantic import ValidationError

from producers.listing import Rules, SkipReason
from worker.errors import InvalidMessageError
from worker.messages import ImageRef
from worker.wording import worded

MAX_WRAPPINGS = 3
"""How many times SNS may have wrapped an event. One topic wraps once; more is a chain of topics, or a loop."""

_REASONS_SHOWN = 5


@dataclass(frozen=True)
class UnreadEvent:
    """A part of a message that cannot be understood: the reason, and the text to send again when the cause is gone."""

    reason: str
    payload: str


@dataclass(frozen=True)
class Reading:
    """What one body says: images to judge, without repeated uris; ignored events, counted by cause; and a fault.

    A cause is a `SkipReason`, the kind of an event that creates no object ("ObjectRemoved", "Object Deleted"),
    "TestEvent", or "empty" for a notification without records.
    """

    images: tuple[ImageRef, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    fault: UnreadEvent | None = None


@dataclass(frozen=True)
class _Created:
    ref: ImageRef
    sequencer: int | None


def read(body: str, rules: Rules) -> Reading:
    """Reads `body`. It never raises: a part that it does not understand becomes the fault of the reading."""
    try:
        return _read(_unwrapped(body), body, rules)
    except InvalidMessageError as error:
        return Reading(fault=UnreadEvent(str(error), body))
    except RecursionError:
        return Reading(fault=UnreadEvent("the JSON is nested too deeply", body))


def _unwrapped(body: str) -> dict[str, Any]:
    text = body
    for _ in range(MAX_WRAPPINGS + 1):
        try:
            message = json.loads(text)
        except ValueError as error:
            raise InvalidMessageError(f"not JSON: {error}") from error
        if not isinstance(message, dict):
            raise InvalidMessageError("not a JSON object")
        match message:
            case {"Type": "Notification", "Message": str(text)}:
                continue
            case {"Type": "SubscriptionConfirmation"}:
                raise InvalidMessageError("SNS wants to confirm this queue's subscription: open its SubscribeURL once")
        return message
    raise InvalidMessageError(f"wrapped by SNS more than {MAX_WRAPPINGS} times")


def _read(message: dict[str, Any], body: str, rules: Rules) -> Reading:
    if message.get("Event") == "s3:TestEvent":
        return Reading(ignored={"TestEvent": 1})
    records = message.get("Records")
    understood: Callable[[Any], _Created | str]
    if message.get("source") == "aws.s3":
        entries, understood = [message], _bridged
    elif isinstance(records, list):
        entries, understood = records, _recorded
    else:
        raise InvalidMessageError('not an event of S3: no "Records", no EventBridge "source", and no test event')
    created: list[_Created] = []
    ignored: Counter[str] = Counter() if entries else Counter(empty=1)
    faulty: list[tuple[str, Any]] = []
    for number, entry in enumerate(entries, start=1):
        try:
            found = understood(entry)
        except InvalidMessageError as error:
            faulty.append((f"record {number}: {error}" if len(entries) > 1 else str(error), entry))
            continue
        if isinstance(found, _Created):
            created.append(found)
        else:
            ignored[found] += 1
    images = _images(created, rules, ignored)
    return Reading(images, dict(ignored), _fault(faulty, body, whole=len(faulty) == len(entries)))


def _recorded(record: Any) -> _Created | str:
    """Reads a record of https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html."""
    match record:
        case {"eventName": str(name), "s3": dict(told)}:
            # AWS asks readers to compare the major version for equality. MinIO and Ceph write 2.x, too.
            version = str(record.get("eventVersion", "2"))
            if version.partition(".")[0] != "2":
                raise InvalidMessageError(f"eventVersion {version} is not supported, only 2.x")
            kind = name.removeprefix("s3:").partition(":")[0]
            if kind != "ObjectCreated":
                return kind
        case _:
            raise InvalidMessageError("eventName or s3 is missing, which every record of S3 has")
    match told:
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(encoded), **facts}}:
            # The same page: "The object key name value is URL encoded. For example, red flower.jpg becomes
            # red+flower.jpg". Decoding is strict, since a replacement character would name another object.
            try:
                key = unquote_plus(encoded, errors="strict")
            except UnicodeDecodeError as error:
                raise InvalidMessageError(f"the key is not UTF-8: {error.reason}") from error
            return _created(bucket, key, facts.get("eTag"), facts)
    raise InvalidMessageError("no bucket name and object key")


def _bridged(event: Any) -> _Created | str:
    """Reads an event of https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html."""
    match event:
        case {"detail-type": "Object Created", "detail": dict(told)}:
            pass
        case {"detail-type": str(kind)} if kind != "Object Created":
            return kind
        case _:
            raise InvalidMessageError("detail-type or detail is missing, which every event of EventBridge has")
    match told:
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **facts}}:
            # The key is not decoded: that page mentions no encoding, unlike the one on notifications, and programs that
            # send such events instead of S3 (moto) or read them take the key as it is.
            return _created(bucket, key, facts.get("etag"), facts)
    raise InvalidMessageError("no bucket name and object key")


def _created(bucket: str, key: str, etag: Any, facts: dict[Any, Any]) -> _Created:
    if "/" in bucket:
        raise InvalidMessageError("a bucket's name has no slash")
    try:
        etag = etag.strip('"') or None if isinstance(etag, str) else etag
        ref = ImageRef(uri=f"s3://{bucket}/{key}", etag=etag, size=facts.get("size"))
    except ValidationError as error:
        fault = error.errors()[0]
        raise InvalidMessageError(f"{fault['loc'][0]}: {worded(fault)}") from error
    return _Created(ref, _sequencer(facts.get("sequencer")))


def _sequencer(text: Any) -> int | None:
    """Returns a sequencer as a number. S3 compares those of one key as texts of the same length, padded with zeros."""
    try:
        return int(text, 16)
    except (TypeError, ValueError):
        return None


def _images(created: Sequence[_Created], rules: Rules, ignored: Counter[str]) -> tuple[ImageRef, ...]:
    """Returns the newest image of each uri that the rules accept, and counts the others."""
    newest: dict[str, _Created] = {}
    for found in created:
        other = newest.setdefault(found.ref.uri, found)
        if other is found:
            continue
        ignored[SkipReason.DUPLICATE] += 1
        known = found.sequencer is not None and other.sequencer is not None
        if not known or found.sequencer >= other.sequencer:  # type: ignore[operator]  # `known` checks it
            newest[found.ref.uri] = found
    images = []
    for found in newest.values():
        cause = rules.skip_reason(found.ref.uri, found.ref.size)
        if cause is None:
            images.append(found.ref)
        else:
            ignored[cause] += 1
    return tuple(images)


def _fault(faulty: Sequence[tuple[str, Any]], body: str, *, whole: bool) -> UnreadEvent | None:
    if not faulty:
        return None
    reasons = [reason for reason, _ in faulty[:_REASONS_SHOWN]]
    if len(faulty) > _REASONS_SHOWN:
        reasons.append(f"and {len(faulty) - _REASONS_SHOWN} more")
    payload = body if whole else json.dumps({"Records": [entry for _, entry in faulty]})
    return UnreadEvent("; ".join(reasons), payload)
