"""The whole desk and the whole API on a login that has the role `web` and nothing else."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from fastapi import FastAPI
from fastapi.testclient import TestClient

from producers.left_behind import publish_left_behind
from producers.submissions import Key, Submissions
from tests.api import program, token_for
from tests.desk import ORIGIN, csrf_of, desk_app, drawn, logged_in, person, png, settings, swept
from tests.integration.test_api_scopes import TABLE
from tests.integration.test_broker import put
from tests.processes import fakesweep, wait_for
from tests.roles import Home, home, with_all_logins
from worker import broker
from worker.database import connect
from worker.errors import BrokerUnavailableError, InvalidMessageError
from worker.messages import LIVE_QUEUE, ImageRef, JudgeImages
from worker.tables import DeskRole, Scope
from worker.testing import InMemoryImageStore

FLAGGED, COPY, DARK = "s3://archive/0000.png", "s3://archive/copy.png", "s3://archive/dark.png"
_ALIKE = """
UPDATE content_hashes SET pdq = repeat('1', 256)::bit(256), quality = 100, in_question = true;
INSERT INTO content_hashes (sha256, pdq, quality, in_question)
SELECT DISTINCT sha256, repeat('1', 256)::bit(256), 100, true FROM contents ON CONFLICT DO NOTHING
"""


@dataclass
class Place:
    """An archive after a scan, and the desk, which runs with a login that has the role `web`."""

    roles: Home
    app: FastAPI
    celery: Celery
    scan: UUID
    tokens: dict[Scope, str]

    def sha_of(self, uri: str) -> str:
        (row,) = self.roles.sql(f"SELECT sha256 FROM verdicts WHERE uri = '{uri}'")
        return str(row[0])

    def program(self, scope: Scope) -> TestClient:
        client = program(self.app, self.tokens[scope])
        client.base_url = f"{ORIGIN}/v1"
        return client


@pytest.fixture
def place(
    postgres_server_url: str, template: str, clean_redis_url: str, bucket: str, s3_environment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:  # fmt: skip
    put(bucket, s3_environment, {f"a/{number:03}.png": number for number in range(5)})
    with home(postgres_server_url, template) as roles:
        with_all_logins(roles)
        monkeypatch.setenv("DATABASE_URL", roles.url_of("web"))  # also for the processes that publish scans
        monkeypatch.setenv("BROKER_URL", clean_redis_url)
        monkeypatch.setenv("SOURCE", f"s3://{bucket}/a/")
        owner, web = connect(roles.url_of("owner")), connect(roles.url_of("web"))
        scan = swept_by_worker(roles, InMemoryImageStore(images()))
        roles.sql(_ALIKE)
        for name, role in {"heron": DeskRole.REVIEWER, "wren": DeskRole.REVIEWER, "owl": DeskRole.ADMIN}.items():
            person(owner, name, role)
        tokens = {scope: token_for(owner, scope) for scope in Scope}
        celery = broker.create_app(clean_redis_url)
        gone = InMemoryImageStore(
            {uri: data for uri, data in images().items() if uri != FLAGGED}
        )  # so the copy is shown
        app = desk_app(web, store=gone, broker=celery, settings=settings(second_share=1.0))
        yield Place(roles, app, celery, scan, tokens)
        app.state.parts.scans.close()
        app.state.pictures.close()
        for database in (owner, web):
            database.dispose()


def images() -> dict[str, bytes | Exception]:
    from PIL import Image

    found = {f"s3://archive/{name}": data for name, data in drawn(3).items()}
    return {**found, COPY: found[FLAGGED], DARK: png(Image.new("RGB", (60, 60), "black")), "s3://archive/bad": b"bad"}


def swept_by_worker(roles: Home, store: InMemoryImageStore) -> UUID:
    """Scans and judges as a superuser. What a worker and a producer may do is tested elsewhere."""
    database = connect(roles.url)
    uris = [FLAGGED, COPY, DARK, "s3://archive/0001.png", "s3://archive/0002.png", "s3://archive/bad"]
    refs = [ImageRef(uri=uri, external_id=f"post {uri[-8:]}") for uri in uris]
    scan = swept(database, store, refs)
    database.dispose()
    return scan


class Browser:
    """A person's browser. It checks the status of every answer, which is success unless the test says otherwise."""

    def __init__(self, place: Place, name: str) -> None:
        self._client = logged_in(place.app, name)

    def get(self, path: str, status: int = 200) -> str:
        answer = self._client.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text)
        return answer.text

    def send(self, path: str, status: int = 303, **values: Any) -> str:
        token = csrf_of(self.get("/me"))
        answer = self._client.post(path, data={"csrf": token, **values})
        assert answer.status_code == status, (path, answer.status_code, answer.text)
        return answer.headers.get("location", answer.text)

    def picture(self, page: str) -> None:
        for address in re.findall(r'src="(/pictures/[^"]+)"', page):
            answer = self._client.get(address)
            assert (answer.status_code, answer.headers.get("x-reason")) == (200, None), answer.headers

    def decide(self, page: str, statement: str, **values: Any) -> str:
        """Decides about the item of a page, which this person has claimed."""
        hidden = dict(re.findall(r'name="(claim|scan_id|uri|verdict_id)" value="([^"]*)"', page))
        path = re.findall(r'action="(/items/\w+/decide)', page)[0]
        return self.send(path, **hidden, statement=statement, **values)


def test_people_review(place: Place) -> None:
    heron, wren, owl = (Browser(place, name) for name in ("heron", "wren", "owl"))
    first = place.sha_of("s3://archive/0001.png")
    for query in (f"scan={place.scan}", "bucket=archive", "detector=1", "verdict=fake", "external_id=post", ""):
        heron.picture(heron.get(f"/queue?{query}"))
    heron.get(f"/queue?near={first}")
    item = heron.send("/next")
    assert item.startswith("/items/")
    heron.picture(page := heron.get(item))
    claim = re.findall(r'data-claim="([^"]+)"', page)[0]
    heron.send(f"{item}/keep", 200, claim=claim)
    heron.send(f"{item}/skip")
    heron.send(f"/items/{first}/claim")
    page = heron.get(f"/items/{first}")
    along = re.findall(r'name="also" value="(\w+)"', page)
    assert along, "it has near duplicates"
    heron.decide(page, "fake", reason_code="anatomy", note="six fingers", also=along[:1])
    heron.send("/undo", 200)  # it shows the item with what was typed
    heron.decide(heron.get(f"/items/{first}"), "fake")
    wren.send(f"/items/{first}/claim")
    page = wren.get(f"/items/{first}")
    assert "This is a second look" in page
    wren.decide(page, "real")
    owl.send(f"/items/{first}/claim")
    owl.decide(owl.get(f"/items/{first}"), "real")
    kinds = "SELECT kind FROM reviews WHERE id NOT IN (SELECT review_id FROM withdrawals) ORDER BY id"
    assert place.roles.sql(kinds) == [("first",), ("second",), ("appeal",)]
    never = wren.get(f"/items/{place.sha_of(DARK)}")
    assert "picture" in never
    wren.picture(never)
    owl.get("/agreement")


def test_a_lead_controls_scans(place: Place) -> None:
    owl = Browser(place, "owl")
    owl.get("/overview")
    owl.get(f"/scans/{place.scan}")
    owl.get(f"/scans/{place.scan}?after=")
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', owl.get("/scans/new")))
    scan = owl.send("/scans", **fields, sources=os.environ["SOURCE"]).rpartition("/")[2]
    status = f"SELECT status, listed FROM scans WHERE id = '{scan}'"
    wait_for(lambda: place.roles.sql(status) == [("running", 5)], 60)
    for act, after in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        owl.get(f"/scans/{scan}/{act}")
        owl.send(f"/scans/{scan}/{act}")
        wait_for(lambda: not place.app.state.parts.scans.running(UUID(scan)), 60)
        assert place.roles.sql(status)[0][0] == after
        owl.get(f"/scans/{scan}")
    retried = fakesweep("retry", str(place.scan), "--reason", "not_an_image", environment=dict(os.environ))
    assert retried.returncode == 0, retried.stderr
    owl.get("/overview")


def test_an_admin_takes_dead_letters(place: Place) -> None:
    owl = Browser(place, "owl")
    job = JudgeImages(images=(ImageRef(uri="s3://b/1.png"),)).model_dump(mode="json")
    for payload in (job, {"version": 9}):
        broker.dead_letter(place.celery, payload, InvalidMessageError("no message"), "no id", queue=LIVE_QUEUE)
    assert "There are 2." in owl.get("/dead-letters")
    good, bad = re.findall(r"Letter <code>(\w+)</code>", owl.send("/dead-letters", 200))
    owl.send("/dead-letters/replay", letter=good)
    owl.send("/dead-letters/discard", letter=bad, sure="yes")
    assert broker.depth(place.celery, LIVE_QUEUE) == 1


def test_programs_use_every_endpoint(place: Place) -> None:
    """Each endpoint in the table is called at least once, and answers with success."""
    client = {scope: place.program(scope) for scope in Scope}
    called: set[tuple[str, str]] = set()

    def call(scope: Scope, method: str, path: str, body: Any = None, key: str = "", **given: Any) -> Any:
        headers = {"Idempotency-Key": key} if key else {}
        answer = client[scope].request(method, path.format(**given), json=body, headers=headers)
        assert answer.status_code < 300, (method, path, answer.text)
        called.add((method, path.partition("?")[0]))
        return answer.json()

    images = {"images": [{"uri": FLAGGED}]}
    submission = call(Scope.SUBMIT, "POST", "/submissions", images)["id"]
    for _ in range(2):
        call(Scope.SUBMIT, "POST", "/submissions", images, key="k")
    for path in ("/submissions/{submission_id}", "/submissions/{submission_id}/findings"):
        call(Scope.READ, "GET", path, submission_id=submission)
    scan = call(Scope.SCAN, "POST", "/scans", {"sources": [os.environ["SOURCE"]]})["id"]
    call(Scope.READ, "GET", "/scans")
    call(Scope.READ, "GET", "/scans/{scan_id}", scan_id=scan)
    for act in ("pause", "resume", "cancel"):
        call(Scope.SCAN, "POST", f"/scans/{{scan_id}}/{act}", scan_id=scan)
    found = call(Scope.READ, "GET", "/scans/{scan_id}/findings", scan_id=place.scan)
    assert len(found["items"]) == 6
    stated = {"scan_id": str(place.scan), "uri": FLAGGED, "statement": "fake"}
    call(Scope.REVIEW, "POST", "/reviews", stated)
    call(Scope.READ, "GET", "/reviews")
    call(Scope.READ, "GET", "/withdrawals")
    call(Scope.READ, "GET", "/contents/{sha256}", sha256=place.sha_of(FLAGGED))
    call(Scope.READ, "GET", "/health")
    call(Scope.READ, "GET", "/openapi.json")
    assert called == set(TABLE), set(TABLE) - called


def test_a_submission_that_was_left_behind_is_published(place: Place) -> None:
    web = place.app.state.parts.database
    away = Submissions(broker.create_app("redis://127.0.0.1:9/0"), web)
    (token_id,) = place.roles.sql("SELECT min(id) FROM api_tokens")[0]
    with pytest.raises(BrokerUnavailableError):
        away.submit([ImageRef(uri=FLAGGED)], Key(token_id, "k", "0" * 64))
    place.roles.sql("UPDATE scans SET created_at = now() - interval '2 minutes' WHERE kind = 'live'")
    assert publish_left_behind(place.celery, web) == 1
    assert broker.depth(place.celery, LIVE_QUEUE) == 1
