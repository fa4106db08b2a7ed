"""Contents and reviews through the API."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert
from sqlmodel import Session, col

from producers.reviews import disable_reviewer
from producers.web.api.settling import settled_reviews
from tests.api import allowed, mounted, program, token_for
from tests.desk import person
from tests.integration.test_api_scans import followed
from tests.integration.test_scans import Archive
from worker.database import Database, transaction
from worker.errors import LockedError
from worker.tables import DeskRole, Review, Scope, Withdrawal


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
        ({"scan_id": "00000000-0000-4000-8000-000000000000"}, 404),
        ({"uri": "s3://b/nowhere.png"}, 404),
        ({"sha256": "0" * 64}, 404),
        ({"verdict_id": 2**62}, 404),
        ({"statement": "fine"}, 422),
        ({"note": "a\x00b"}, 422),
        ({"note": "x" * 10_001}, 422),
        ({"verdict_id": 2**63}, 422),
    ],
)
def test_wrong_reviews_are_refused(archive: Archive, client: TestClient, change: dict[str, Any], status: int) -> None:
    assert client.post("/reviews", json=place(archive) | change).status_code == status
    assert client.get("/reviews").json()["items"] == []


def withdraw(session: Session, reviews: list[int]) -> None:
    session.execute(insert(Withdrawal).values([{"review_id": one, "reviewer": "heron"} for one in reviews]))


def test_a_program_learns_of_withdrawals(archive: Archive, client: TestClient, database: Database) -> None:
    made = [client.post("/reviews", json=place(archive)).json() for _ in range(4)]
    assert made[0]["withdrawn_at"] is None
    gone = [one["id"] for one in made[:3]]
    with transaction(database) as session:  # at the same time, so the id decides their order
        withdraw(session, gone)
    listed = followed(client, "/reviews?limit=3")
    assert [one["withdrawn_at"] is not None for one in listed] == [True, True, True, False]
    content = client.get(f"/contents/{made[0]['sha256']}").json()
    assert {one["id"]: one["withdrawn_at"] for one in content["reviews"]} == {
        one["id"]: one["withdrawn_at"] for one in listed
    }
    told = followed(client, "/withdrawals?limit=1")
    assert [(one["review_id"], one["reviewer"]) for one in told] == [(one, "heron") for one in gone]
    with transaction(database) as session:
        withdraw(session, [made[3]["id"]])
    later = client.get("/withdrawals", params={"since": told[2]["withdrawn_at"], "after": gone[2]}).json()["items"]
    assert [one["review_id"] for one in later] == [made[3]["id"]]
    again = client.get("/withdrawals", params={"since": told[0]["withdrawn_at"]}).json()["items"]
    assert [one["review_id"] for one in again] == [*gone, made[3]["id"]]
    assert client.get("/withdrawals?since=0").status_code == 422


def test_a_review_committed_after_one_with_a_higher_id_is_not_missed(
    archive: Archive, client: TestClient, database: Database
) -> None:
    stated = place(archive)
    row = {**stated, "scan_id": UUID(stated["scan_id"]), "reviewer": "heron"}
    with ThreadPoolExecutor(1) as pool:
        with transaction(database) as session:
            slow = session.execute(insert(Review).values(**row).returning(col(Review.id))).scalar_one()
            quick = client.post("/reviews", json=stated | {"uri": "s3://b/00001.png"}).json()["id"]
            assert slow < quick
            with pytest.raises(LockedError):
                settled_reviews(database, patience_s=0)
            asking = pool.submit(client.get, "/reviews")
        assert [one["id"] for one in asking.result(30).json()["items"]] == [slow, quick]


def test_pages_of_reviews(archive: Archive, client: TestClient) -> None:
    stated = place(archive)
    made = [client.post("/reviews", json=stated).json()["id"] for _ in range(5)]
    assert [one["id"] for one in followed(client, "/reviews?limit=2")] == made
    assert [one["id"] for one in followed(client, f"/reviews?after={made[2]}")] == made[3:]
