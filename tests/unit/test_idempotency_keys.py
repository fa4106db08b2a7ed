"""What an idempotency key remembers of its request stays the same from release to release."""

from producers.web.api.submissions import Submit, request_sha256

ASKED = {"images": [{"uri": "s3://photos/1.png"}], "fake_from": 0.7}


def test_a_request_without_newer_fields_has_the_hash_of_the_release_before() -> None:
    """That release computed the number. Its keys are still known when a client repeats a request after an update."""
    expected = "e5afe585e518bc9f3d8d6436251b5a7cd405221d661a41165a805ba979fa7d4f"
    assert request_sha256(Submit.model_validate(ASKED)) == expected


def test_newer_fields_make_another_request() -> None:
    bodies = [ASKED, ASKED | {"judge": True}, ASKED | {"also": ["siglip"]}]
    assert len({request_sha256(Submit.model_validate(one)) for one in bodies}) == 3
