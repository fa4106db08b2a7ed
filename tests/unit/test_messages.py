"""Which messages are accepted, which are refused, and the errors."""

from uuid import uuid4

import pytest
from pydantic import ValidationError

from worker.errors import InvalidMessageError
from worker.messages import JudgeImages, Policy


def message(**changes: object) -> dict[str, object]:
    return {"version": 1, "images": [{"uri": "s3://bucket/key.jpg"}], **changes}


def test_the_smallest_message() -> None:
    job = JudgeImages.parse(message())
    assert job.images[0].uri == "s3://bucket/key.jpg"
    assert job.scan_id is None


def test_keys_are_not_decoded() -> None:
    uri = "s3://bucket/a b+c%20d/ü\n.jpg"
    assert JudgeImages.parse(message(images=[{"uri": uri}])).images[0].uri == uri


def test_a_written_message_can_be_read_again() -> None:
    job = JudgeImages.parse(message(scan_id=str(uuid4()), explain="all", attempt=2))
    assert JudgeImages.parse(job.model_dump(mode="json", exclude_none=True)) == job


def test_a_message_of_a_scan_leaves_further_detectors_to_the_scan() -> None:
    job, scan_id = JudgeImages.parse(message(also=["a"])), uuid4()
    of_scan = JudgeImages.parse(job.of_scan(scan_id, attempt=1).payload())
    assert (of_scan.scan_id, of_scan.attempt, of_scan.images, of_scan.also) == (scan_id, 1, job.images, None)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (message(version=2), "version"),
        (message(images=[]), "images"),
        (message(images=[{"uri": f"s3://b/{number}"} for number in range(17)]), "images"),
        (message(images=[{"uri": "s3://b/k"}, {"uri": "s3://b/k"}]), "twice"),
        (message(images=[{"uri": "http://example.org/x.jpg"}]), "s3://"),
        (message(images=[{"uri": "s3://bucket/"}]), "s3://bucket/key"),
        (message(images=[{"uri": "s3://b/a\x00b"}]), "NUL"),
        (message(images=[{"uri": "s3://b/" + "k" * 2048}]), "2048"),
        (message(images=[{"uri": "s3://b/\ud800"}]), "uri"),
        (message(images=[{"uri": "s3://b/k", "size": -1}]), "size"),
        (message(images=[{"uri": "s3://b/k", "external_id": "a\x00b"}]), "NUL"),
        (message(images=[{"uri": "s3://b/k", "etag": "a\x00b"}]), "NUL"),
        (message(scan_id="yesterday"), "scan_id"),
        (message(explain="loudly"), "explain"),
        (message(also=["a", "b", "a"]), "also: must not name a detector twice"),
        (message(also=[str(number) for number in range(9)]), "also"),
        (message(also=[""]), "also.0: must be a detector's name"),
        (message(scan_id=str(uuid4()), also=["a"]), "also must be left out when scan_id is given"),
        (message(colour="red"), "colour"),
        ("a string", "message"),
        (None, "message"),
    ],
)
def test_an_invalid_message_is_an_error_with_the_reason(payload: object, said: str) -> None:
    with pytest.raises(InvalidMessageError, match=said):
        JudgeImages.parse(payload)


def test_real_to_must_not_be_above_fake_from() -> None:
    with pytest.raises(ValidationError, match="real_to"):
        Policy(fake_from=0.3, real_to=0.6)


@pytest.mark.parametrize(
    ("set_", "filled"),
    [
        ({}, (0.6, 0.4)),
        ({"fake_from": 0.9}, (0.9, 0.4)),
        ({"fake_from": 0.3}, (0.3, 0.3)),
        ({"real_to": 0.1}, (0.6, 0.1)),
        ({"real_to": 0.8}, (0.8, 0.8)),
        ({"fake_from": 0.5, "real_to": 0.5}, (0.5, 0.5)),
    ],
)
def test_a_missing_threshold_is_the_detectors_or_the_other_one(
    set_: dict[str, float], filled: tuple[float, float]
) -> None:
    policy = Policy(**set_).filled(fake_from=0.6, real_to=0.4)
    assert (policy.fake_from, policy.real_to) == filled
