"""Contents and reviews through the API."""

from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from producers.reviews import disable_reviewer
from tests.api import allowed, mounted, program, token_for
from tests.desk import person
from tests.integration.test_api_scans import followed
from tests.integration.test_scans import Archive
from worker.database import Database
from worker.tables import DeskRole, Scope


@pytest.fixture
def archive(database: Database) -> Archive:
    made = Archive(database)
    made.fill(3)  # fake, real, uncertain
    made.images["s3://b/copy.png"] = made.images["s3://b/00000.png"]
    return made


@pytest.fixture
def client(database: Database) -> TestClient:
    return allowed(database)


def place(archive: Archive, uri: str = "s3://b/00000.png", **more: Any) -> dict[str, Any]:
    return {"scan_id": archive.sweep()["scan"], "uri": uri, "statement": "fake", **more}


def test_a_content_shows_what_detectors_and_people_say_and_where_it_lies(archive: Archive, client: TestClient) -> None:
    stated = place(archive)
    found = client.get(f"/scans/{stated['scan_id']}/findings").json()["items"]
    sha256 = found[0]["sha256"]
    before = client.get(f"/contents/{sha256}").json()
    assert [(one["detector"], one["answer"], one["verdict"]) for one in before["verdicts"]] == [
        ("scripted", "fake", "fake")
    ]
    assert before["places"] == ["s3://b/00000.png", "s3://b/copy.png"]
    assert (before["standing"]["waits_for_review"], before["places_count"]) == (True, 2)
    made = client.post("/reviews", json=stated | {"note": "six fingers", "reason_code": "hands"})
    assert made.status_code == 201, made.text
    after = client.get(f"/contents/{sha256}").json()
    assert after["reviews"] == [made.json()]
    assert (after["standing"]["statement"], after["standing"]["waits_for_review"]) == ("fake", False)
    real = client.get(f"/contents/{found[1]['sha256']}").json()
    assert (real["places"], real["standing"]["waits_for_review"]) == (["s3://b/00001.png"], False)


def test_the_author_is_the_reviewer_of_the_token(archive: Archive, database: Database) -> None:
    app, stated = mounted(database), place(archive)
    heron, crane = (program(app, token_for(database, Scope.REVIEW, reviewer=name)) for name in ("heron", "crane"))
    made = [one.post("/reviews", json=stated).json() for one in (heron, crane)]
    assert [(one["reviewer"], one["kind"], one["verdict"]) for one in made] == [
        ("heron", "first", "fake"),
        ("crane", "second", "fake"),
    ]
    assert heron.post("/reviews", json=stated | {"reviewer": "crane"}).status_code == 422
    disable_reviewer(database, "heron")
    assert heron.post("/reviews", json=stated).status_code == 403


def test_only_a_lead_decides_an_appeal(archive: Archive, database: Database) -> None:
    appeal = place(archive, kind="appeal")
    client = allowed(database, Scope.REVIEW)
    assert client.post("/reviews", json=appeal).status_code == 403
    person(database, "heron", DeskRole.LEAD)
    assert client.post("/reviews", json=appeal).json()["kind"] == "appeal"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"scan_id": str(uuid4())}, 404),
        ({"uri": "s3://b/nowhere.png"}, 404),
        ({"sha256": "0" * 64}, 404),
        ({"verdict_id": 2**62}, 404),
        ({"statement": "fine"}, 422),
        ({"note": "a\x00b"}, 422),
        ({"note": "x" * 10_001}, 422),
        ({"verdict_id": 2**63}, 422),
    ],
)
def test_reviews_of_nothing(archive: Archive, client: TestClient, change: dict[str, Any], status: int) -> None:
    assert client.post("/reviews", json=place(archive) | change).status_code == status
    assert client.get("/reviews").json()["items"] == []


def test_pages_of_reviews(archive: Archive, client: TestClient) -> None:
    stated = place(archive)
    made = [client.post("/reviews", json=stated).json()["id"] for _ in range(5)]
    assert [one["id"] for one in followed(client, "/reviews?limit=2")] == made
    assert [one["id"] for one in followed(client, f"/reviews?after={made[2]}")] == made[3:]
