"""Scans and their findings through the API: pages, forms, filters, starting and stopping."""

import csv
import io
import json
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text, update

from producers.scans import Listing, start_scan
from tests.api import Started, allowed, mounted, program, token_for
from tests.integration.test_scans import Archive
from worker.database import Database, transaction
from worker.tables import Scan, Scope


@pytest.fixture
def archive(database: Database) -> Archive:
    made = Archive(database)
    made.fill(30)
    made.images["s3://b/broken +%&.png"] = b"no image"
    return made


@pytest.fixture
def started() -> Started:
    return Started()


@pytest.fixture
def client(database: Database, started: Started) -> TestClient:
    return allowed(database, publisher=started)


def followed(client: TestClient, path: str) -> list[dict[str, Any]]:
    """All items of a list, page by page. Checks that the body and the header name the same next page."""
    items: list[dict[str, Any]] = []
    while True:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        path = answer.json()["next"]
        assert _linked(answer) == path
        if path is None:
            return items
        assert urlsplit(path).path.startswith("/v1/")
        path = path.removeprefix("/v1")


def _linked(answer: Any) -> str | None:
    url: str | None = answer.links.get("next", {}).get("url")
    return url


@pytest.mark.parametrize("limit", [1, 7, 30, 31, 1000])
def test_pages_of_findings_have_each_finding_once(archive: Archive, client: TestClient, limit: int) -> None:
    scan = archive.sweep()["scan"]
    rows = followed(client, f"/scans/{scan}/findings?limit={limit}")
    assert [row["uri"] for row in rows] == sorted(archive.images)
    expected = archive.rows(UUID(scan))
    assert {row["uri"]: row["verdict"] for row in rows} == {uri: row["verdict"] for uri, row in expected.items()}


@pytest.mark.parametrize(
    "query", ["verdict=fake", "outcome=failed", "reason=not_an_image", "verdict=real&outcome=judged"]
)
def test_findings_are_filtered(archive: Archive, client: TestClient, query: str) -> None:
    scan = archive.sweep()["scan"]
    wanted = dict(part.split("=") for part in query.split("&"))
    expected = [uri for uri, row in archive.rows(UUID(scan)).items() if wanted.items() <= row.items()]
    assert expected
    assert [row["uri"] for row in followed(client, f"/scans/{scan}/findings?limit=3&{query}")] == expected


def more_findings(database: Database, scan: UUID, count: int) -> list[str]:
    """Adds copies of a fake image's finding at other uris, because judging this many images would take long."""
    with transaction(database) as session:
        query = (
            "INSERT INTO findings SELECT (jsonb_populate_record(f, jsonb_build_object('uri', 's3://c/' || n))).* "
            "FROM findings f, generate_series(1, :count) n WHERE scan_id = :scan AND uri = 's3://b/00000.png'"
        )
        session.execute(text(query), {"scan": scan, "count": count})
    return [f"s3://c/{n}" for n in range(1, count + 1)]


def test_json_lines_and_csv_hold_all_findings(archive: Archive, client: TestClient, database: Database) -> None:
    scan = archive.sweep()["scan"]
    uris = sorted([*archive.images, *more_findings(database, UUID(scan), 2070)])  # more than two batches
    lines = client.get(f"/scans/{scan}/findings", headers={"Accept": "text/csv;q=0.5, application/x-ndjson"})
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["uri"] for line in lines.text.splitlines()] == uris
    table = client.get(f"/scans/{scan}/findings?format=csv&verdict=fake")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert len(rows) == 2080
    assert {(row["verdict"], row["detector"]) for row in rows} == {("fake", "scripted")}
    assert client.get(f"/scans/{scan}/findings", headers={"Accept": "image/png"}).status_code == 406
    page = client.get(f"/scans/{scan}/findings?format=csv&limit=5")
    assert len(page.text.splitlines()) == 6
    assert "format=csv" in str(_linked(page))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_reads_no_cell_as_a_formula(client: TestClient, database: Database, start: str) -> None:
    archive = Archive(database)
    archive.fill(1)
    scan = archive.sweep()["scan"]
    (uri,) = archive.images
    hostile = f'{start}cmd|" /C calc"!A0'
    with transaction(database) as session:  # without the trigger that lets nobody change findings
        session.connection().exec_driver_sql("SET LOCAL session_replication_role = replica")
        session.connection().exec_driver_sql("UPDATE findings SET external_id = %s", (hostile,))
    (row,) = csv.DictReader(io.StringIO(client.get(f"/scans/{scan}/findings?format=csv").text, newline=""))
    assert (row["external_id"], row["uri"]) == (f"'{hostile}", uri)
    assert client.get(f"/scans/{scan}/findings").json()["items"][0]["external_id"] == hostile


def test_findings_that_were_dropped_are_gone(archive: Archive, client: TestClient, database: Database) -> None:
    from producers import retention

    scan = archive.sweep()["scan"]
    retention.drop_scan(database, UUID(scan))
    assert client.get(f"/scans/{scan}/findings").status_code == 410
    assert client.get(f"/scans/{scan}").json()["dropped_at"]


def test_pages_of_scans(archive: Archive, client: TestClient, database: Database) -> None:
    made = [str(archive.start(name=f"scan {number}")) for number in range(7)]
    with transaction(database) as session:  # three at the same time, so the id decides their order
        session.execute(update(Scan).where(Scan.name < "scan 3").values(created_at="2026-01-01"))  # type: ignore[arg-type]
    rows = followed(client, "/scans?limit=2")
    assert {row["id"] for row in rows} == set(made)
    assert len(rows) == 7
    assert [row["created_at"] for row in rows] == sorted((row["created_at"] for row in rows), reverse=True)
    client.post(f"/scans/{made[6]}/pause")
    assert [row["id"] for row in followed(client, "/scans?status=paused")] == [made[6]]


def test_a_scan_is_started_once_for_a_token(client: TestClient, started: Started) -> None:
    body = {"sources": ["s3://photos/2026/"], "name": "photos", "token": "t", "suffixes": [".JPG"], "max_tokens": 64}
    first = client.post("/scans", json=body)
    assert first.status_code == 201, first.text
    assert first.headers["location"] == f"/v1/scans/{first.json()['id']}"
    assert first.json()["policy"]["max_tokens"] == 64
    assert client.post("/scans", json=body).json()["id"] == first.json()["id"]
    assert started.scans == [UUID(first.json()["id"])] * 2
    assert client.post("/scans", json=body | {"rejudge": True}).status_code == 409
    assert client.get(first.headers["location"].removeprefix("/v1")).json()["status"] == "listing"


def test_no_program_takes_over_the_scan_of_a_schedule_or_of_another_program(database: Database) -> None:
    listing = Listing(sources=("s3://photos/",))
    nightly = start_scan(database, listing, token="photos@2026-07-01T02:00:00+00:00", schedule="photos")
    app = mounted(database)
    one, other = (program(app, token_for(database, Scope.SCAN)) for _ in range(2))
    body = {"sources": ["s3://photos/"], "token": nightly.token}
    ids = [client.post("/scans", json=body).json()["id"] for client in (one, other, one)]
    assert ids[0] == ids[2]
    assert len({str(nightly.id), *ids}) == 3


def test_a_scan_is_paused_resumed_and_cancelled(client: TestClient, started: Started) -> None:
    scan = client.post("/scans", json={"sources": ["s3://b/"]}).json()["id"]
    assert client.post(f"/scans/{scan}/pause").json()["status"] == "paused"
    assert client.post(f"/scans/{scan}/pause").status_code == 409
    assert client.post(f"/scans/{scan}/resume", json={"max_flagged_share": 2}).status_code == 422
    assert client.post(f"/scans/{scan}/resume").json()["status"] == "listing"
    assert started.scans == [UUID(scan)] * 2
    ended = client.post(f"/scans/{scan}/cancel").json()
    assert (ended["status"], ended["note"]) == ("cancelled", "cancelled by hand")
    assert client.post(f"/scans/{scan}/resume").status_code == 409
    assert started.scans == [UUID(scan)] * 2


def test_a_scan_is_not_served_as_a_submission(archive: Archive, client: TestClient) -> None:
    scan = archive.start()
    for path in ("", "/findings"):
        assert client.get(f"/submissions/{scan}{path}").status_code == 404
