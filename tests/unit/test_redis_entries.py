"""Any entry of a Redis list becomes an envelope that kombu can read."""

import json
from base64 import b64decode, b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual import Base64, Message

from worker.envelope import UNREADABLE
from worker.messages import SCAN_QUEUE
from worker.redis_entries import readable

GOOD: dict[str, Any] = {
    "body": b64encode(b'[[{"version": 1}], {}, {}]').decode(),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"task": "moderation.judge_images", "id": "1"},
    "properties": {
        "correlation_id": "1", "delivery_mode": 2, "delivery_tag": "tag", "body_encoding": "base64", "priority": 0,
        "delivery_info": {"exchange": "moderation", "routing_key": "moderation.scan"},
    },
}  # fmt: skip


WRONG: tuple[Any, ...] = (None, 5, [])


class Channel:
    """The part of kombu's channel that its Message needs."""

    def decode_body(self, body: str, encoding: str | None = None) -> Any:
        return Base64().decode(body) if encoding else body


def read(entry: bytes) -> Message:
    message = Message(json.loads(json.dumps(readable(entry, SCAN_QUEUE))), channel=Channel())
    assert not message.errors
    assert message.delivery_info["routing_key"] == SCAN_QUEUE
    assert message.delivery_info["exchange"] == "moderation"
    return message


def test_an_envelope_of_kombu_only_gets_a_new_tag() -> None:
    message = read(json.dumps(GOOD).encode())
    assert (message.body, message.headers) == (b'[[{"version": 1}], {}, {}]', GOOD["headers"])
    assert message.content_type == "application/json"
    assert message.delivery_tag != "tag", "of two entries with one tag, one would be lost"
    assert message.delivery_info["redelivered"] is False


def test_the_mark_of_a_redelivery_is_kept() -> None:
    info = {"redelivered": True, "exchange": "", "routing_key": ["?"]}
    message = read(json.dumps(GOOD | {"properties": GOOD["properties"] | {"delivery_info": info}}).encode())
    assert message.delivery_info["redelivered"] is True


@pytest.mark.parametrize(
    "entry",
    [
        b"", b"no json", b"\xff\xfe", b"null", b"[]", b"5", b"{}", b"[" * 100_000,
        *(json.dumps({**GOOD, name: wrong}).encode() for name in ("body", "headers", "properties") for wrong in WRONG),
        json.dumps(GOOD | {"properties": {"body_encoding": "rot13"}}).encode(),
        json.dumps(GOOD | {"body": "%%%a", "properties": {"body_encoding": "base64"}}).encode(),
        json.dumps(GOOD | {"properties": {"body_encoding": ["base64"]}}).encode(),
        json.dumps(GOOD | {"headers": {"a": {"__type__": "x", "__value__": 1}}}).encode(),
        json.dumps(GOOD | {"headers": {"a": json.loads("[" * 30 + "]" * 30)}}).encode(),
    ],
)  # fmt: skip
def test_an_entry_that_is_no_envelope_is_kept_whole_with_the_reason(entry: bytes) -> None:
    made = readable(entry, SCAN_QUEUE)
    assert "not a kombu envelope" in read(entry).headers[UNREADABLE]
    assert b64decode(made["body"]) == entry


@given(st.binary(max_size=80))
def test_any_bytes_can_be_read(entry: bytes) -> None:
    read(entry)
