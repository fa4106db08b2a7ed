"""Wrong, too large and hostile requests get an answer that says what is wrong, and never a 500."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from fastapi.testclient import TestClient

from producers.scans import Listing
from tests.api import allowed, mounted, program, token_for
from tests.desk import settings
from worker.database import Database, connect
from worker.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    QueueUnavailableError,
    StorageUnavailableError,
    UnknownSourceError,
)
from worker.tables import Scope

IMAGE = '{"uri": "s3://b/a.jpg"%s}'
JSON = {"Content-Type": "application/json"}
NOBODYS = "00000000-0000-4000-8000-000000000000"
"""No scan has this id. It is fixed, because test names must be the same in all processes of pytest-xdist."""
AWAY = "postgresql://nobody@127.0.0.1:9/none"


def images(more: str = "") -> bytes:
    return f'{{"images": [{IMAGE % more}]}}'.encode()


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 422, "body"),
        (b"{", 400, None),
        (b"\xff\xfe", 400, None),
        (b"[" * 200_000, 400, None),
        (b'{"images":' * 20_000, 400, None),
        (images(', "size": ' + "9" * 5000), 400, None),
        (images(', "size": ' + "9" * 400), 422, "images.0.size"),
        (images(', "size": NaN'), 422, "images.0.size"),
        (images(', "size": "5"'), 422, "images.0.size"),
        (images(', "size": true'), 422, "images.0.size"),
        (images(', "external_id": "a\\u0000b"'), 422, "images.0.external_id"),
        (images(', "external_id": "a\\ud800b"'), 422, "images.0.external_id"),
        (images(', "exernal_id": "typo"'), 422, "images.0.exernal_id"),
        (images(', "\\ud800": 1'), 422, "images.0"),
        (b'{"images": [{"uri": "s3://b/a"}, {"uri": "s3://b/a"}]}', 422, "images"),
        (b'{"images": []}', 422, "images"),
        (b'{"images": [{"uri": "file:///etc/passwd"}]}', 422, "images.0"),
        (b'{"images": [{"uri": "http://b/a"}]}', 422, "images.0.uri"),
        (images()[:-1] + b', "fake_from": NaN}', 422, "fake_from"),
        (images()[:-1] + b', "fake_from": 0.1, "real_to": 0.9}', 422, "body"),
        (b"null", 422, "body"),
        (b"[]", 422, "body"),
    ],
)  # fmt: skip
def test_wrong_bodies_are_refused(database: Database, body: bytes, status: int, field: str | None) -> None:
    answer = allowed(database, Scope.SUBMIT).post("/submissions", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if field:
        assert field in {fault["field"] for fault in answer.json()["errors"]}, answer.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_only_json_is_accepted(database: Database, kind: str) -> None:
    answer = allowed(database, Scope.SUBMIT).post("/submissions", content=images(), headers={"Content-Type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/scans?limit=0", 422),
        ("/scans?limit=" + "9" * 5000, 422),
        ("/scans?limit=1&limit=2", 422),
        ("/scans?limt=1", 422),
        ("/scans?after=%ff", 400),
        ("/scans?after=%00", 422),
        ("/scans/%ff", 400),
        ("/scans/no-id", 422),
        ("/scans/" + NOBODYS, 404),
        ("/scans?after=" + NOBODYS, 404),
        (f"/scans/{NOBODYS}/findings?after=s3://b/%00", 422),
        ("/contents/" + "g" * 64, 422),
        ("/contents/" + "0" * 64, 404),
        ("/reviews?after=" + str(2**63), 422),
        ("/scans/", 404),
        ("/..%2f..%2fetc", 404),
    ],
)  # fmt: skip
def test_wrong_addresses_are_refused(database: Database, path: str, status: int) -> None:
    answer = allowed(database, Scope.READ).get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_long_body_is_refused_with_and_without_a_content_length(database: Database) -> None:
    client = allowed(database, Scope.SUBMIT, settings=settings(api_max_body_bytes=2000))

    def chunks() -> Iterator[bytes]:
        yield from [b" " * 500] * 5

    for content in (b" " * 2001, chunks()):
        answer = client.post("/submissions", content=content, headers=JSON)
        assert answer.status_code == 413
        assert "2000 bytes" in answer.json()["detail"]
    assert client.post("/submissions", content=b" " * 2000, headers=JSON).status_code == 400


def test_too_many_images_are_refused(database: Database) -> None:
    client = allowed(database, Scope.SUBMIT, settings=settings(api_max_images=2))
    body = {"images": [{"uri": f"s3://b/{n}"} for n in range(3)]}
    assert "2 images at most" in client.post("/submissions", json=body).text


def test_each_token_has_its_own_rate(database: Database) -> None:
    app = mounted(database, settings=settings(api_rate_per_minute=3))
    one, other = (program(app, token_for(database, Scope.READ)) for _ in range(2))
    assert [one.get("/scans").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = one.get("/scans")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert other.get("/scans").status_code == 200


@pytest.mark.parametrize(
    ("uri", "taken"),
    [
        ("file:///data/a.jpg", True),
        ("file:///data/../etc/passwd", False),
        ("file:///data/%2e%2e/etc/passwd", False),
        ("file:///database/a.jpg", False),
        ("file:///data/%00", True),
        ("s3://ours/a.jpg", True),
        ("s3://theirs/a.jpg", False),
    ],
)
def test_only_allowed_buckets_and_folders_are_accepted(database: Database, uri: str, taken: bool) -> None:
    given = settings(FAKESWEEP_ALLOWED_BUCKETS="ours,more", FAKESWEEP_ALLOWED_FOLDERS="/data")
    app = mounted(database, settings=given, broker=Celery(broker="memory://"))
    answer = program(app, token_for(database, Scope.SUBMIT)).post("/submissions", json={"images": [{"uri": uri}]})
    assert answer.status_code == (202 if taken else 422), answer.text


def test_no_scan_starts_if_its_source_is_not_allowed_or_missing(database: Database) -> None:
    def nowhere(_listing: Listing) -> None:
        raise UnknownSourceError("s3://b/x: not there")

    client = allowed(database, look=nowhere)
    for source in ("/etc", "-", "file:///etc", "s3://", "https://b/x", "s3://b/x"):
        assert client.post("/scans", json={"sources": [source]}).status_code == 422, source
    assert client.get("/scans").json()["items"] == []


@pytest.fixture
def nowhere(database: Database) -> Iterator[TestClient]:
    """A program whose server has lost its database."""
    away = connect(AWAY)
    yield program(mounted(away), token_for(database, Scope.READ))
    away.dispose()


def test_without_a_database_the_answer_is_503(nowhere: TestClient) -> None:
    answer = nowhere.get("/scans")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "127.0.0.1" not in answer.text
    health: dict[str, Any] = nowhere.get("/health").json()
    assert health["database"] == "unavailable"
    assert "127.0.0.1" not in str(health)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StorageUnavailableError("at 10.0.0.1"), "the storage cannot be reached"),
        (BrokerUnavailableError("at 10.0.0.1"), "the broker cannot be reached"),
        (QueueUnavailableError("at 10.0.0.1"), "something is away that this needs"),
        (ConfigurationError("S3 at 10.0.0.1"), "a setting of the server is wrong"),
    ],
    ids=["storage", "broker", "other", "setting"],
)
def test_an_unavailable_service_is_named_without_its_address(database: Database, error: Exception, said: str) -> None:
    def away(_listing: Listing) -> None:
        raise error

    answer = allowed(database, look=away).post("/scans", json={"sources": ["s3://b/"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["detail"].startswith(said)
    assert "10.0.0.1" not in answer.text


def test_an_unexpected_error_is_a_500_without_details(database: Database) -> None:
    def broken(_listing: Listing) -> None:
        raise ZeroDivisionError("the secret")

    answer = allowed(database, look=broken).post("/scans", json={"sources": ["s3://b/"]})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"
