"""The envelope of a message is not trusted: any input gives an envelope, or an error with the reason."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from worker.envelope import (
    DELIVERIES,
    MAX_DEPTH,
    REFUSED,
    SINCE,
    UNREADABLE,
    Envelope,
    open_envelope,
    without_compression,
)
from worker.errors import InvalidMessageError
from worker.messages import JUDGE_IMAGES

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ID = str(uuid4())
JOB = {"version": 1, "images": [{"uri": "s3://b/k"}]}


def opened(headers: dict[str, Any] | None = None, body: object = None, kind: object = "application/json") -> Envelope:
    given_headers = {"task": JUDGE_IMAGES, "id": ID} | (headers or {})
    body = [[JOB], {}, {}] if body is None else body
    data = body if isinstance(body, bytes | str) else json.dumps(body).encode()
    return open_envelope(given_headers, data, kind, now=NOW)


def test_a_message_of_celery() -> None:
    """The headers and options that app.send_task() of Celery 5.7 sends."""
    headers: dict[str, Any] = {
        "lang": "py", "shadow": None, "eta": None, "expires": None, "group": None, "group_index": None, "retries": 0,
        "timelimit": [300, None], "root_id": ID, "parent_id": None, "argsrepr": "…", "kwargsrepr": "{}",
        "origin": "gen1@host", "ignore_result": True, "replaced_task_nesting": 0, "stamps": {}, DELIVERIES: 3,
    }  # fmt: skip
    nothing = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    envelope = opened(headers, [[JOB], {}, nothing])
    assert (envelope.id, envelope.payload, envelope.eta, envelope.deliveries) == (ID, JOB, None, 3)
    assert envelope.headers == {"task": JUDGE_IMAGES, "id": ID, DELIVERIES: 3}
    assert json.loads(envelope.body) == [[JOB], {}, {}]


def test_a_uuid_as_celery_writes_it() -> None:
    scan_id = uuid4()
    envelope = opened(body=kombu_json.dumps([[JOB | {"scan_id": scan_id}], {}, {}]))
    assert envelope.payload["scan_id"] == scan_id
    assert kombu_json.loads(envelope.body)[0][0]["scan_id"] == UUID(str(scan_id))


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"id": None}, "header id"),
        ({"id": 12345}, "header id"),
        ({"id": {"a": 1}}, "header id"),
        ({"id": ""}, "header id"),
        ({"id": "x" * 256}, "header id"),
        ({"id": "a\0b"}, "header id"),
        ({"id": "\ud800"}, "header id"),
        ({"task": None}, "no task"),
        ({"task": [JUDGE_IMAGES]}, "header task"),
        ({"task": "another.task"}, "header task"),
        ({"timelimit": 5}, "timelimit"),
        ({"timelimit": [1, 2, 3]}, "timelimit"),
        ({"timelimit": ["a", None]}, "timelimit"),
        ({"eta": "tomorrow"}, "header eta"),
        ({"eta": 5}, "header eta"),
        ({"eta": "9999-12-31T23:59:59.999999-14:00"}, "header eta"),
        ({"expires": 10**400}, "header expires"),
        ({"expires": float("nan")}, "header expires"),
        ({"expires": ["2020"]}, "header expires"),
    ],
)  # fmt: skip
def test_headers_that_celery_cannot_handle(headers: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidMessageError, match=word):
        opened(headers)


def test_a_wrong_clock_lets_no_message_wait_and_refuses_none() -> None:
    """A worker whose clock is an hour slow gets a message that another one has put off for twenty seconds."""
    published, eta = NOW + timedelta(hours=1), NOW + timedelta(hours=1, seconds=20)
    envelope = opened({"published_at": published.isoformat(), "eta": eta.isoformat()})
    assert (envelope.refused, envelope.eta, envelope.since) == (None, None, None)


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        (
            {"eta": "2026-11-27T12:00:00+00:00", "published_at": "2026-11-26T12:00:00+00:00"},
            "more than 25 minutes away",
        ),
        (
            {"eta": "2026-11-27T12:00:00+00:00", "published_at": "2026-11-27T12:00:01+00:00"},
            "more than 25 minutes away",
        ),
        ({"eta": "2026-11-27T12:00:00+00:00", "published_at": "yesterday"}, "more than 25 minutes away"),
        ({"eta": "2026-11-27T12:00:00+00:00"}, "more than 25 minutes away"),
        ({"expires": "2020-01-01T00:00:00+00:00"}, "expired"),
        ({"expires": "2020-01-01T00:00:00"}, "expired"),
        ({"expires": -1}, "expired"),
        ({"expires": "2026-11-26T12:05:00+00:00", "eta": "2026-11-26T12:10:00+00:00"}, "expired"),
    ],
)
def test_a_valid_message_that_is_refused(headers: dict[str, Any], word: str) -> None:
    envelope = opened(headers)
    assert word in str(envelope.refused)
    assert (envelope.eta, envelope.headers[REFUSED]) == (None, envelope.refused)


@pytest.mark.parametrize(
    ("headers", "since"),
    [
        ({"published_at": "2026-11-26T11:59:30.250+00:00"}, "2026-11-26T11:59:30.250+00:00"),
        ({"published_at": "2026-11-26T12:59:30+01:00"}, "2026-11-26T11:59:30+00:00"),
        ({"published_at": "2026-11-26T11:59:30"}, "2026-11-26T11:59:30+00:00"),
        ({"published_at": "2026-11-26T11:00:00Z", "eta": "2026-11-26T11:10:00Z"}, "2026-11-26T11:10:00+00:00"),
        ({"published_at": "2026-11-26T11:00:00Z", "eta": "2026-11-26T12:10:00Z"}, "2026-11-26T12:10:00+00:00"),
        ({"published_at": "2026-11-26T11:00:00Z", "eta": "2026-11-26T10:10:00Z"}, "2026-11-26T11:00:00+00:00"),
        ({"published_at": "2026-11-26T12:00:30Z"}, "2026-11-26T12:00:30+00:00"),
    ],
)
def test_the_time_since_which_a_message_waits(headers: dict[str, Any], since: str) -> None:
    envelope = opened(headers)
    assert envelope.since == datetime.fromisoformat(since)
    assert envelope.headers[SINCE] == datetime.fromisoformat(since).timestamp()


@pytest.mark.parametrize(
    "published_at",
    [
        None, "", "yesterday", 1764158370, 1e400, True, b"2026-11-26T11:59:30Z", ["2026-11-26"], {"a": 1}, NOW,
        "0001-01-01T00:00:00+14:00", "2026-10-01T12:00:00Z", "2026-11-26T12:02:00Z", "9999-12-31T23:59:59-14:00",
        "x" * 10**6,
    ],
)  # fmt: skip
def test_an_impossible_time_of_publishing_is_ignored(published_at: object) -> None:
    envelope = opened({"published_at": published_at})
    assert (envelope.since, envelope.refused) == (None, None)
    assert envelope.headers == {"task": JUDGE_IMAGES, "id": ID, DELIVERIES: 0}
    assert SINCE not in opened({SINCE: 5}).headers, "nobody else may set it"


def test_compressed_and_deeply_nested_messages_are_refused() -> None:
    headers = without_compression({"task": JUDGE_IMAGES, "compression": "application/x-gzip", UNREADABLE: "x", "a": 1})
    assert headers.keys() == {"task", UNREADABLE, "a"}
    with pytest.raises(InvalidMessageError, match="compressed messages are not supported"):
        opened(headers)
    assert without_compression({UNREADABLE: "x", REFUSED: "y"}) == {}, "nobody else may set these"
    deep: Any = JOB
    for _ in range(MAX_DEPTH):
        deep = {"a": deep}
    with pytest.raises(InvalidMessageError, match="nested in more than"):
        opened(body=[[deep], {}, {}])


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{ not json", b"\xff\xfe\xfd", "[" * 200_000, JOB, [JOB], None, 5, [[JOB], {}], [[JOB], {}, {}, {}],
        [[], {}, {}], [[JOB, JOB], {}, {}], [JOB, {}, {}], [5, {}, {}], [[JOB], None, None], [[JOB], {"a": 1}, {}],
        [[JOB], {}, []], [[JOB], {}, {"callbacks": [{"task": "x"}]}], [[JOB], {}, {"chord": 5}],
        b'[[{"__type__": "datetime", "__value__": 5}], {}, 5]',
    ],
)  # fmt: skip
def test_bodies_that_differ_from_the_documentation(body: object) -> None:
    with pytest.raises(InvalidMessageError, match=r"body must be|not JSON"):
        opened(body=b"null" if body is None else body)


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-python-serialize", 5])
def test_content_types_that_are_not_json(kind: object) -> None:
    with pytest.raises(InvalidMessageError, match="content type"):
        opened(kind=kind)


def test_a_message_with_an_eta() -> None:
    soon = NOW + timedelta(minutes=20)
    assert opened({"eta": soon.isoformat()}).eta == soon
    assert opened({"eta": soon.replace(tzinfo=None).isoformat()}).headers["eta"] == soon.isoformat(), "UTC without zone"
    assert opened({"eta": (NOW - timedelta(days=1)).isoformat()}).eta is None, "it is time"
    assert "expires" not in opened({"expires": (NOW + timedelta(hours=1)).isoformat()}).headers


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
NAMES = st.sampled_from(
    ["task", "id", "eta", "expires", "published_at", "timelimit", "retries", "group", DELIVERIES, UNREADABLE]
)


@given(
    headers=st.dictionaries(NAMES | st.text(max_size=8), ANYTHING | st.just(JUDGE_IMAGES)),
    body=st.binary(max_size=60) | ANYTHING.map(lambda value: json.dumps(value, default=str)) | st.none(),
    kind=ANYTHING | st.just("application/json"),
)
def test_any_input_is_an_envelope_or_an_error_with_a_reason(headers: dict[Any, Any], body: Any, kind: Any) -> None:
    try:
        envelope = open_envelope(headers, body, kind, now=NOW)
    except InvalidMessageError as error:
        assert str(error)
    else:
        assert envelope.headers["task"] == JUDGE_IMAGES
        assert isinstance(json.loads(envelope.body), list)
