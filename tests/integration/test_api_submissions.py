"""Submissions through the API: published once even if a process dies, awaited, read. Broker and Postgres are real."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from celery import Celery
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from sqlmodel import col

from producers import submissions
from producers.left_behind import publish_left_behind
from tests.api import allowed, mounted, program, token_for
from tests.contract.test_publishers import take
from tests.desk import desk_app, settings
from tests.integration.test_moderate import png
from tests.processes import free_port, running_process, wait_for
from worker import broker
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.detector.vlm import VlmDetector
from worker.messages import LIVE_QUEUE, ImageRef, JudgeImages
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import IdempotencyKey, Scan, Scope, Unpublished
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

URIS = [f"s3://b/{n:02d}.png" for n in range(20)]
KEY = {"Idempotency-Key": "one"}
NOBODY = "redis://127.0.0.1:9/0"


def body(count: int = 20, **more: Any) -> dict[str, Any]:
    return {"images": [{"uri": uri, "external_id": f"post {uri}"} for uri in URIS[:count]], **more}


def judge(database: Database, url: str) -> list[str]:
    """Judges all messages of the queue, as a worker does. Returns the uris of their images."""
    description = scripted_description()
    images = {uri: png("white") + bytes([n]) for n, uri in enumerate(URIS)}
    parts = Parts(
        InMemoryImageStore(images), database, VlmDetector(ScriptedEngine(), description),
        register_detector(database, description.row()),
    )  # fmt: skip
    jobs = [(JudgeImages.parse(message.payload[0][0]), message.headers["id"]) for message in take(url, LIVE_QUEUE)]
    for job, message_id in jobs:
        moderate(job, UUID(message_id), parts)
    return [image.uri for job, _ in jobs for image in job.images]


@pytest.fixture
def client(database: Database, clean_redis_url: str) -> TestClient:
    return allowed(database, broker=broker.create_app(clean_redis_url))


def test_what_is_submitted_is_judged_and_read_back(
    client: TestClient, database: Database, clean_redis_url: str
) -> None:
    taken = client.post("/submissions", json=body(explain="all", fake_from=0.7))
    assert taken.status_code == 202, taken.text
    assert taken.headers["location"] == f"/v1/submissions/{taken.json()['id']}"
    assert (taken.json()["status"], taken.json()["listed"], taken.json()["findings"]) == ("running", 20, None)
    assert judge(database, clean_redis_url) == URIS
    place = taken.headers["location"].removeprefix("/v1")
    assert client.get(place).json() | {"status": "done", "judged": 20, "fake": 20} == client.get(place).json()
    page = client.get(f"{place}/findings?limit=7").json()
    assert [row["uri"] for row in page["items"]] == URIS[:7]
    assert page["items"][3]["external_id"] == f"post {URIS[3]}"
    assert page["items"][3]["verdict"] == "fake"
    with transaction(database) as session:
        scan = session.get_one(Scan, UUID(taken.json()["id"]))
    assert (scan.policy["explain"], scan.policy["fake_from"], scan.source) == ("all", 0.7, "API")


def test_a_program_may_wait_for_its_verdicts(client: TestClient, database: Database, clean_redis_url: str) -> None:
    worker = threading.Timer(0.7, wait_for, (lambda: len(judge(database, clean_redis_url)) == 3, 60))
    worker.start()
    answer = client.post("/submissions", json=body(3), headers={"Prefer": "respond-async, wait=60"})
    worker.join()
    assert answer.status_code == 200, answer.text
    assert answer.headers["preference-applied"] == "wait=60"
    assert [row["verdict"] for row in answer.json()["findings"]] == ["fake"] * 3
    asked = client.get(f"/submissions/{answer.json()['id']}", headers={"Prefer": "wait=20"}).json()
    assert asked["findings"] == answer.json()["findings"]


def test_waiting_ends_at_the_limit_of_the_server(database: Database, clean_redis_url: str) -> None:
    given = {"broker": broker.create_app(clean_redis_url), "settings": settings(api_max_wait_s=1)}
    client = allowed(database, **given)
    began = time.monotonic()
    answer = client.post("/submissions", json=body(1), headers={"Prefer": "wait=9999999999999"})
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    assert time.monotonic() - began >= 1


def test_the_same_key_makes_one_submission(client: TestClient, clean_redis_url: str) -> None:
    first, again = (client.post("/submissions", json=body(), headers=KEY) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = client.post("/submissions", json=body(2), headers=KEY)
    assert other.status_code == 422
    assert "another body" in other.json()["detail"]
    assert len(take(clean_redis_url, LIVE_QUEUE)) == 2


def test_a_key_belongs_to_its_token_and_is_kept_for_a_day(database: Database, clean_redis_url: str) -> None:
    app = mounted(database, broker=broker.create_app(clean_redis_url))
    one, other = (program(app, token_for(database, Scope.SUBMIT)) for _ in range(2))
    ids = [client.post("/submissions", json=body(1), headers=KEY).json()["id"] for client in (one, other, one)]
    assert ids[0] == ids[2] != ids[1]
    with transaction(database) as session:
        session.execute(update(IdempotencyKey).values(created_at=datetime.now(UTC) - timedelta(hours=25)))
    assert one.post("/submissions", json=body(1), headers=KEY).json()["id"] not in ids
    with transaction(database) as session:
        assert len(session.execute(select(IdempotencyKey)).all()) == 1


def test_a_submission_can_ask_for_the_judge_of_a_cascade(client: TestClient, database: Database) -> None:
    asked, other = (client.post("/submissions", json=body(1, **more)).json()["id"] for more in ({"judge": True}, {}))
    with transaction(database) as session:
        assert session.get_one(Scan, UUID(asked)).policy["judge"] is True
        assert "judge" not in session.get_one(Scan, UUID(other)).policy, "workers of the release before do not know it"


def test_only_one_of_many_simultaneous_requests_with_one_key_submits(client: TestClient, clean_redis_url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/submissions", json=body(1), headers=KEY), range(8)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 409)
    assert len(take(clean_redis_url, LIVE_QUEUE)) == 1


def test_an_unavailable_broker_is_a_503_and_the_same_key_completes_it_later(
    database: Database, clean_redis_url: str
) -> None:
    token = token_for(database, Scope.SUBMIT)
    away = program(mounted(database, broker=broker.create_app(NOBODY)), token)
    refused = away.post("/submissions", json=body(), headers=KEY)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert "127.0.0.1" not in refused.text
    assert "repeat the request with the same idempotency key" in refused.json()["detail"]
    assert away.get("/health").json()["broker"] == "unavailable"
    back = program(mounted(database, broker=broker.create_app(clean_redis_url)), token)
    completed = back.post("/submissions", json=body(), headers=KEY)
    assert (completed.status_code, completed.headers["idempotent-replayed"]) == (202, "true")
    assert judge(database, clean_redis_url) == URIS
    _nothing_is_left(database, UUID(completed.json()["id"]))


def test_without_a_key_an_unavailable_broker_leaves_an_empty_submission(database: Database) -> None:
    client = allowed(database, broker=broker.create_app(NOBODY))
    assert client.post("/submissions", json=body()).status_code == 503
    with transaction(database) as session:
        (scan,) = session.execute(select(Scan)).scalars()
    assert (scan.status, scan.listed) == ("done", 0)


@pytest.mark.parametrize("published", [0, 1])
def test_a_server_that_is_killed_between_commit_and_publish_loses_nothing(
    published: int, database: Database, database_url: str, clean_redis_url: str, tmp_path: Path
) -> None:
    token = token_for(database, Scope.SUBMIT, Scope.READ)
    environment = {"DATABASE_URL": database_url, "BROKER_URL": clean_redis_url}
    dies = ("--dies-after", str(published))
    with _server(environment, tmp_path, token, *dies) as client, pytest.raises(httpx.TransportError):
        client.post("submissions", json=body(), headers=KEY)
    with _server(environment, tmp_path, token) as client:
        completed = client.post("submissions", json=body(), headers=KEY)
        assert (completed.status_code, completed.headers["idempotent-replayed"]) == (202, "true")
        assert set(judge(database, clean_redis_url)) == set(URIS)
        found = client.get(f"submissions/{completed.json()['id']}/findings").json()["items"]
    assert [row["uri"] for row in found] == URIS
    _nothing_is_left(database, UUID(completed.json()["id"]))


def _nothing_is_left(database: Database, scan_id: UUID) -> None:
    with transaction(database) as session:
        assert session.execute(select(Unpublished)).all() == []
        assert session.execute(select(col(IdempotencyKey.published_at))).scalar_one() is not None
        scans = list(session.execute(select(Scan)).scalars())
    assert [(scan.id, scan.status, scan.listed, scan.judged) for scan in scans] == [(scan_id, "done", 20, 20)]


@contextlib.contextmanager
def _server(environment: dict[str, str], folder: Path, token: str, *options: str) -> Iterator[httpx.Client]:
    port = free_port()
    with running_process(["tests.api_server", str(port), *options], environment, folder / "server.log") as process:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/v1/", headers=headers, timeout=90) as client:

            def answers() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return client.get("health").status_code == 200
                return False

            wait_for(answers, 60, process, folder / "server.log")
            yield client


def _taken(database: Database) -> int:
    with transaction(database) as session:
        return len(session.execute(select(col(Scan.id))).all())


def test_waiting_holds_no_thread(database: Database, clean_redis_url: str, database_url: str, tmp_path: Path) -> None:
    """More programs wait than there are threads, and another request is still answered."""
    token = token_for(database, *Scope, name="all")
    environment = {"DATABASE_URL": database_url, "BROKER_URL": clean_redis_url}
    with _server(environment, tmp_path, token) as client, ThreadPoolExecutor(60) as pool:
        prefer = {"Prefer": "wait=60"}
        waiting = [pool.submit(client.post, "submissions", json=body(1), headers=prefer) for _ in range(60)]
        wait_for(lambda: _taken(database) == len(waiting), 60)
        assert client.get("reviews").status_code == 200
        assert not any(one.done() for one in waiting)

        def all_done() -> bool:
            judge(database, clean_redis_url)  # some may be published after their rows are committed
            return all(one.done() for one in waiting)

        wait_for(all_done, 60)
        assert {one.result().status_code for one in waiting} == {200}


def test_a_refused_body_is_not_published(database: Database) -> None:
    client = allowed(database, broker=Celery(broker=NOBODY))
    assert client.post("/submissions", json={"images": []}).status_code == 422


def left_behind(database: Database, client: TestClient, minutes: int, **headers: str) -> list[str]:
    """Submits images this long ago, while the broker is away. Returns the statuses of all submissions."""
    assert client.post("/submissions", json=body(3), headers=headers).status_code == 503
    with transaction(database) as session:
        session.execute(update(Scan).values(created_at=datetime.now(UTC) - timedelta(minutes=minutes)))
        return list(session.execute(select(col(Scan.status))).scalars())


def test_a_web_process_publishes_what_no_program_asks_for_again(database: Database, clean_redis_url: str) -> None:
    left_behind(database, allowed(database, broker=broker.create_app(NOBODY)), 2, **KEY)
    whole = desk_app(database, broker=broker.create_app(clean_redis_url))
    with TestClient(whole, base_url="http://127.0.0.1:8400"):
        wait_for(lambda: judge(database, clean_redis_url) == URIS[:3], 20)
    with transaction(database) as session:
        assert session.execute(select(Unpublished)).first() is None
        assert session.execute(select(col(Scan.status))).scalars().all() == ["done"]


def test_a_request_that_may_still_be_running_is_left_alone(database: Database, clean_redis_url: str) -> None:
    left_behind(database, allowed(database, broker=broker.create_app(NOBODY)), 0, **KEY)
    assert publish_left_behind(broker.create_app(clean_redis_url), database) == 0


def test_a_submission_without_a_key_ends_when_the_broker_is_away(database: Database, clean_redis_url: str) -> None:
    """Its program got an error and has no key with which to ask for it, so it submits again."""
    assert left_behind(database, allowed(database, broker=broker.create_app(NOBODY)), 2) == ["done"]
    assert publish_left_behind(broker.create_app(clean_redis_url), database) == 0


def test_a_submission_without_a_key_is_published_if_its_process_was_killed(
    database: Database, clean_redis_url: str
) -> None:
    class KilledError(BaseException):
        """Acts like a SIGKILL between the commit and the first message."""

    celery = broker.create_app(clean_redis_url)

    def killed(*_args: Any, **_more: Any) -> Any:
        raise KilledError

    dying = broker.create_app(clean_redis_url)
    dying.connection_for_write = killed
    refs = [ImageRef(uri=uri) for uri in URIS[:3]]
    with pytest.raises(KilledError):
        submissions.submit(dying, database, refs)
    assert publish_left_behind(celery, database, older_than=timedelta(0)) == 3
    assert judge(database, clean_redis_url) == URIS[:3]
    submissions.submit(celery, database, refs)
    assert publish_left_behind(celery, database, older_than=timedelta(0)) == 0
