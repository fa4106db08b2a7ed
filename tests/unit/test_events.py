"""Bodies of SQS messages: which images they name, what is ignored, and what cannot be understood."""

import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.listening.events import Reading, UnreadEvent, read
from producers.listing import Rules
from worker.messages import ImageRef

ALL = Rules()


def record(key: Any = "a.jpg", event: Any = "ObjectCreated:Put", **facts: Any) -> dict[str, Any]:
    """Returns an event as S3 writes it, version 2.1. `key` is written as given."""
    return {
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-central-1",
        "eventTime": "2026-03-02T10:00:00.000Z", "eventName": event, "userIdentity": {"principalId": "AWS:x"},
        "s3": {
            "s3SchemaVersion": "1.0", "configurationId": "new-images",
            "bucket": {"name": "photos", "ownerIdentity": {"principalId": "x"}, "arn": "arn:aws:s3:::photos"},
            "object": {"key": key, "size": 5, "eTag": "e1", "sequencer": "0061"} | facts,
        },
    }  # fmt: skip


def bridged(key: Any = "a.jpg", kind: Any = "Object Created", **facts: Any) -> dict[str, Any]:
    """Returns an event as EventBridge writes it."""
    return {
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": kind, "source": "aws.s3",
        "resources": ["arn:aws:s3:::photos"],
        "detail": {
            "version": "0", "bucket": {"name": "photos"}, "reason": "PutObject",
            "object": {"key": key, "size": 5, "etag": "e1", "version-id": "v", "sequencer": "0061"} | facts,
        },
    }  # fmt: skip


def notification(*records: Any, **beside: Any) -> str:
    return json.dumps({"Records": list(records), **beside})


def by_sns(body: str) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:x", "Message": body})


def without(entry: dict[str, Any], *path: str) -> dict[str, Any]:
    copy = json.loads(json.dumps(entry))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return dict(copy)


def put(entry: dict[str, Any], value: Any, *path: str) -> dict[str, Any]:
    copy = without(entry, *path)
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return copy


TEST_EVENT = json.dumps(
    {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-03-02T10:00:00.000Z", "Bucket": "photos",
     "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR"}
)  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        notification(record()),
        notification(record(event="s3:ObjectCreated:Put")),
        notification(record(event="ObjectCreated:CompleteMultipartUpload")),
        notification(record(event="ObjectCreated:*")),
        notification(record(eTag='"e1"')),
        notification(record(newField={"of": "a minor version"})),
        notification(put(record(), "2.6", "eventVersion")),
        notification(without(record(), "eventVersion")),
        notification(record(), EventName="s3:ObjectCreated:Put", Key="photos/a.jpg"),
        by_sns(notification(record())),
        by_sns(by_sns(notification(record()))),
        json.dumps(bridged()),
        by_sns(json.dumps(bridged())),
    ],
)
def test_every_form_names_the_image(body: str) -> None:
    reading = read(body, ALL)
    assert reading.images == (ImageRef(uri="s3://photos/a.jpg", etag="e1", size=5),)
    assert (reading.ignored, reading.fault) == ({}, None)


NASTY = ["red flower.jpg", "1+1=2.png", "a%2Bb.jpg", "100%.jpg", "ü/日本.jpg", "a\nb\tc.jpg", "a&b;c?d#e.jpg",
         "//x//.jpg", "k" * 1024, "日" * 341, "+", " ", "%20", "\\\"'.jpg", "🐈.webp", "../../etc/passwd"]  # fmt: skip


@pytest.mark.parametrize("key", NASTY)
@pytest.mark.parametrize("body_of", ["plus", "percent", "slashes encoded", "EventBridge"])
def test_keys_are_decoded_to_those_of_s3(key: str, body_of: str) -> None:
    body = {
        "plus": notification(record(quote_plus(key, safe="/"))),
        "percent": notification(record(quote(key))),
        "slashes encoded": notification(record(quote_plus(key))),  # MinIO
        "EventBridge": json.dumps(bridged(key)),
    }[body_of]
    assert [ref.uri for ref in read(body, ALL).images] == [f"s3://photos/{key}"]


@pytest.mark.parametrize(
    ("body", "etag", "size"),
    [
        (notification(record(size=None, eTag=None)), None, None),
        (notification(without(record(), "s3", "object", "size")), "e1", None),
        (notification(without(record(), "s3", "object", "eTag")), None, 5),
        (notification(record(eTag="")), None, 5),
        (json.dumps(bridged(etag="e2", size=0)), "e2", 0),
        (json.dumps(without(bridged(), "detail", "object", "etag")), None, 5),
        (json.dumps(without(bridged(), "detail", "object", "size")), "e1", None),
    ],
)
def test_a_field_that_is_missing_is_unknown(body: str, etag: str | None, size: int | None) -> None:
    (ref,) = read(body, ALL).images
    assert (ref.etag, ref.size) == (etag, size)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (notification(record(event="ObjectRemoved:Delete")), "ObjectRemoved"),
        (notification(record(event="s3:ObjectRemoved:DeleteMarkerCreated")), "ObjectRemoved"),
        (notification(record(event="LifecycleExpiration:Delete")), "LifecycleExpiration"),
        (notification(record(event="ObjectRestore:Completed")), "ObjectRestore"),
        (notification(record(event="ObjectTagging:Put")), "ObjectTagging"),
        (notification(record(event="ObjectAcl:Put")), "ObjectAcl"),
        (notification(record(event="IntelligentTiering")), "IntelligentTiering"),
        (notification(record(event="s3:ObjectCreatedLater:Put")), "ObjectCreatedLater"),
        (notification(without(record(event="ObjectRemoved:Delete"), "s3", "object", "size")), "ObjectRemoved"),
        (json.dumps(bridged(kind="Object Deleted")), "Object Deleted"),
        (json.dumps(bridged(kind="Object Tags Added")), "Object Tags Added"),
        (json.dumps({"source": "aws.s3", "detail-type": "AWS API Call via CloudTrail"}), "AWS API Call via CloudTrail"),
        (TEST_EVENT, "TestEvent"),
        (by_sns(TEST_EVENT), "TestEvent"),
        (notification(), "empty"),
    ],
)
def test_events_without_a_new_image_are_counted_by_cause(body: str, cause: str) -> None:
    reading = read(body, ALL)
    assert (reading.images, reading.ignored, reading.fault) == ((), {cause: 1}, None)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not JSON"),
        ("hello", "not JSON"),
        ('{"Records": [', "not JSON"),
        ("9" * 5000, "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("null", "not a JSON object"),
        ("[]", "not a JSON object"),
        (json.dumps([record()]), "not a JSON object"),
        ("{}", "not an event of S3"),
        (json.dumps({"Records": record()}), "not an event of S3"),
        (json.dumps({"Records": None}), "not an event of S3"),
        (json.dumps(put(bridged(), "my.app", "source")), "not an event of S3"),
        (by_sns("hello"), "not JSON"),
        (by_sns(by_sns(by_sns(by_sns(notification(record()))))), "more than 3 times"),
        (json.dumps({"Type": "Notification", "Message": {"Records": []}}), "not an event of S3"),
        (json.dumps({"Type": "SubscriptionConfirmation", "SubscribeURL": "https://x"}), "SubscribeURL"),
        (json.dumps({"Event": "s3:OtherEvent"}), "not an event of S3"),
        (notification(None), "eventName or s3 is missing"),
        (notification([record()]), "eventName or s3 is missing"),
        (notification({}), "eventName or s3 is missing"),
        (
            notification({"eventSource": "aws:dynamodb", "eventName": "INSERT", "dynamodb": {}}),
            "eventName or s3 is missing",
        ),
        (notification(without(record(), "eventName")), "eventName or s3 is missing"),
        (notification(put(record(), ["ObjectCreated:Put"], "eventName")), "eventName or s3 is missing"),
        (notification(put(record(), [], "s3")), "eventName or s3 is missing"),
        (notification(put(record(), "3.0", "eventVersion")), "eventVersion 3.0"),
        (notification(put(record(event="ObjectRemoved:Delete"), "20.0", "eventVersion")), "eventVersion 20.0"),
        (notification(without(record(), "s3", "bucket")), "no bucket name"),
        (notification(without(record(), "s3", "bucket", "name")), "no bucket name"),
        (notification(put(record(), ["photos"], "s3", "bucket")), "no bucket name"),
        (notification(put(record(), "a/b", "s3", "bucket", "name")), "no slash"),
        (notification(put(record(), "", "s3", "bucket", "name")), "uri: "),
        (notification(without(record(), "s3", "object", "key")), "no bucket name"),
        (notification(put(record(), [{"key": "a.jpg"}], "s3", "object")), "no bucket name"),
        (notification(record(["a.jpg"])), "no bucket name"),
        (notification(record("")), "uri: "),
        (notification(record("a%00.jpg")), "uri: "),
        (notification(record("a%FF.jpg")), "not UTF-8"),
        (notification(record("k" * 2048)), "uri: "),
        (notification(record("\ud800.jpg")), "uri: "),
        (notification(record(size=-1)), "size: "),
        (notification(record(size="big")), "size: "),
        (notification(record(size=[5])), "size: "),
        (notification(record(eTag=["e1"])), "etag: "),
        (notification(record(eTag="e" * 257)), "etag: "),
        (json.dumps({"source": "aws.s3"}), "detail-type or detail is missing"),
        (json.dumps(put(bridged(), [], "detail")), "detail-type or detail is missing"),
        (json.dumps(put(bridged(), 7, "detail-type")), "detail-type or detail is missing"),
        (json.dumps(without(bridged(), "detail", "object", "key")), "no bucket name"),
        (json.dumps(bridged("")), "uri: "),
        (json.dumps(bridged(size="big")), "size: "),
    ],
)
def test_a_body_that_cannot_be_understood_is_returned_whole_with_the_reason(body: str, reason: str) -> None:
    reading = read(body, ALL)
    assert reading.fault is not None
    assert reason in reading.fault.reason
    assert "\n" not in reading.fault.reason
    assert reading == Reading(fault=UnreadEvent(reading.fault.reason, body))


def test_bad_records_are_returned_so_that_they_can_be_sent_again() -> None:
    bad = [record(["x"]), {"eventName": "ObjectCreated:Put"}]
    reading = read(by_sns(notification(record("a.jpg"), bad[0], record(event="ObjectRemoved:Delete"), bad[1])), ALL)
    assert [ref.uri for ref in reading.images] == ["s3://photos/a.jpg"]
    assert reading.ignored == {"ObjectRemoved": 1}
    assert reading.fault is not None
    assert json.loads(reading.fault.payload) == {"Records": bad}
    assert "record 2: no bucket name" in reading.fault.reason
    assert "record 4: eventName or s3 is missing" in reading.fault.reason


def test_the_reasons_of_a_thousand_bad_records_stay_short() -> None:
    reading = read(notification(*[record(["x"])] * 1000), ALL)
    assert reading.fault is not None
    assert reading.fault.reason.endswith("; and 995 more")
    assert len(reading.fault.reason) < 400


@pytest.mark.parametrize(
    ("first", "second", "newest"),
    [
        ("0061", "0062", "second"),
        ("0062", "0061", "first"),
        ("ff", "0100", "second"),  # 0xff < 0x100, but not when compared as text
        ("0100", "ff", "first"),
        ("9", "A", "second"),
        ("a", "9", "first"),
        ("0061", "0061", "second"),
        ("0062", None, "second"),
        (None, "0061", "second"),
        ("0062", "no number", "second"),
        ("0062", ["0061"], "second"),
    ],
)
def test_the_later_of_two_records_of_a_key_counts(first: Any, second: Any, newest: str) -> None:
    records = (record(eTag="first", sequencer=first), record(eTag="second", sequencer=second))
    reading = read(notification(*records, record("b.jpg")), ALL)
    assert [(ref.uri, ref.etag) for ref in reading.images] == [
        ("s3://photos/a.jpg", newest),
        ("s3://photos/b.jpg", "e1"),
    ]
    assert reading.ignored == {"duplicate": 1}


def test_the_latest_of_three_records_of_a_key_counts() -> None:
    records = [record(eTag=f"e{number}", sequencer=f"{number}") for number in (1, 3, 2)]
    assert [ref.etag for ref in read(notification(*records), ALL).images] == ["e3"]


def test_the_rules_apply_and_skipped_images_are_counted() -> None:
    rules = Rules(suffixes=(".jpg",), min_bytes=2, max_bytes=10)
    body = notification(
        record("a.JPG"), record("b.txt"), record("c.jpg", size=1), record("d.jpg", size=11), record("e.jpg", size=None),
        record("folder/", size=0),
    )  # fmt: skip
    reading = read(body, rules)
    assert [ref.uri for ref in reading.images] == ["s3://photos/a.JPG", "s3://photos/e.jpg"]
    assert reading.ignored == {"suffix": 1, "too_small": 1, "too_large": 1, "folder_marker": 1}
    assert read(json.dumps(bridged("b.txt")), rules).ignored == {"suffix": 1}


def test_an_older_event_of_an_object_that_became_too_large_is_not_used() -> None:
    reading = read(notification(record(size=5, sequencer="1"), record(size=50, sequencer="2")), Rules(max_bytes=10))
    assert (reading.images, reading.ignored) == ((), {"duplicate": 1, "too_large": 1})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([record(), bridged()]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Records", "Type", "Message", "source", "detail", "detail-type", "s3", "object", "key"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_input_raises_an_error_and_no_record_is_lost(value: Any) -> None:
    for body in (
        json.dumps(value),
        json.dumps({"Records": [value]}),
        json.dumps({"source": "aws.s3", "detail": value}),
    ):
        reading = read(body, ALL)
        assert reading.images or reading.ignored or reading.fault


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert read(text, ALL).fault or read(text, ALL).ignored
