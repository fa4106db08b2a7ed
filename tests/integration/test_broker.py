"""Messages through real brokers to a real Celery worker. Only its engine is scripted."""

import io
import json
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from kombu import Connection, Exchange, Producer, Queue
from PIL import Image

from tests.killing import write_pngs
from tests.processes import RunningWorker, fakesweep, results_of, running_worker, wait_for
from worker import broker
from worker.messages import DEAD_QUEUE, JUDGE_IMAGES, LIVE_QUEUE, SCAN_QUEUE

BOTH = pytest.mark.parametrize("clean_broker_url", ["amqp", "redis"], indirect=True)
QUICK, SLOW = "0", "0.1"
NO_POISON = "-1"


def grey(level: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (40, 40), (level, level, level)).save(target, "PNG")
    return target.getvalue()


def settings_for(database_url: str, broker_url: str, **more: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "FAKESWEEP_THREADS": "4", **more}


def worker(seconds: str, poison: str, environment: dict[str, str], tmp_path: Path) -> Any:
    log = tmp_path / f"worker-{uuid.uuid4().hex[:6]}.log"
    module = ["tests.scripted_worker", seconds, poison, "--visibility", "4"]
    return running_worker(module, environment, log, ready_s=60)


def put(bucket: str, url: str, levels: dict[str, int]) -> None:
    client = boto3.client("s3", endpoint_url=url)
    for key, level in levels.items():
        client.put_object(Bucket=bucket, Key=key, Body=grey(level))


def query(database_url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(statement.encode(), values).fetchall()


def publish_plainly(url: str, queue: str, body: object, headers: dict[str, Any]) -> None:
    """Publishes as docs/message.md tells other programs to: with kombu, without our code or our queue declarations."""
    with Connection(url) as connection:
        channel = connection.channel()
        exchange = Exchange("moderation", type="topic", durable=True, no_declare=True)
        if url.startswith("redis"):  # there, Redis itself holds the routes, and kombu writes them
            Queue(queue, Exchange("moderation", type="topic"), routing_key=queue)(channel).declare()
        Producer(channel, exchange).publish(
            body, routing_key=queue, headers=headers, serializer="json", delivery_mode=2, correlation_id=headers["id"]
        )


def celery_headers(message_id: str, task: str = JUDGE_IMAGES) -> dict[str, Any]:
    return {"task": task, "id": message_id}


@BOTH
def test_a_program_without_our_code_gets_its_verdict(
    clean_broker_url: str, database_url: str, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    put(bucket, s3_environment, {"a b+ü.png": 250})
    message_id = str(uuid.uuid4())
    payload = {"version": 1, "images": [{"uri": f"s3://{bucket}/a b+ü.png", "external_id": "post 7"}]}
    environment = settings_for(database_url, clean_broker_url)
    with worker(QUICK, NO_POISON, environment, tmp_path) as running:
        publish_plainly(clean_broker_url, LIVE_QUEUE, [[payload], {}, {}], celery_headers(message_id))
        statement = "SELECT outcome, verdict, external_id FROM findings WHERE scan_id = %s"
        wait_for(lambda: bool(query(database_url, statement, message_id)), 20, running.process, running.log)
        assert query(database_url, statement, message_id) == [("judged", "fake", "post 7")]


@BOTH
def test_an_invalid_message_is_dead_lettered_with_the_reason(
    clean_broker_url: str, database_url: str, tmp_path: Path
) -> None:
    bad: list[object] = [
        [[{"version": 9, "images": []}], {}, {}],
        [["no object"], {}, {}],
        [[], {"message": {}}, {}],
        [[{"version": 1, "scan_id": str(uuid.uuid4()), "images": [{"uri": "s3://b/k"}]}], {}, {}],
    ]
    with worker(QUICK, NO_POISON, settings_for(database_url, clean_broker_url), tmp_path) as running:
        for body in bad:
            publish_plainly(clean_broker_url, SCAN_QUEUE, body, celery_headers(str(uuid.uuid4())))
        dead: list[Any] = []
        wait_for(lambda: len(_take(clean_broker_url, dead)) == len(bad), 30, running.process, running.log)
    reasons = " ".join(letter["reason"] for letter in dead)
    assert all(word in reasons for word in ("version", "message", "argument", "no scan"))
    assert any(letter["payload"] == [{"version": 9, "images": []}] for letter in dead)


def _take(url: str, taken: list[Any]) -> list[Any]:
    """Takes all dead letters from the queue, and adds them to those that were taken before."""
    with Connection(url) as connection:
        channel = connection.default_channel
        queue = broker.dead_queue()(channel)
        queue.declare()
        while message := queue.get(no_ack=True):
            taken.append(json.loads(message.body))
    return taken


@pytest.mark.rabbitmq
def test_what_celery_cannot_read_is_dead_lettered_by_rabbitmq(
    clean_amqp_url: str, database_url: str, tmp_path: Path
) -> None:
    with worker(QUICK, NO_POISON, settings_for(database_url, clean_amqp_url), tmp_path) as running:
        with Connection(clean_amqp_url) as connection:
            producer = Producer(connection.channel())
            headers = celery_headers(str(uuid.uuid4()))
            for body, content_type, sent in [
                (b"{ not json", "application/json", headers),
                (b"\x80\x04", "application/x-python-serialize", headers),
                (b"[[], {}, {}]", "application/json", celery_headers(str(uuid.uuid4()), task="another.task")),
                (b'"no task at all"', "application/json", {}),
            ]:
                producer.publish(
                    body, exchange="", routing_key=SCAN_QUEUE, headers=sent, content_type=content_type,
                    content_encoding="utf-8", delivery_mode=2,
                )  # fmt: skip
        depths: list[int] = []

        def all_dead() -> bool:
            with Connection(clean_amqp_url) as connection:
                depths[:] = [
                    connection.default_channel.queue_declare(queue, passive=True).message_count
                    for queue in (SCAN_QUEUE, DEAD_QUEUE)
                ]
            return depths == [0, 4]

        wait_for(all_dead, 30, running.process, running.log)
        assert running.process.poll() is None


@BOTH
def test_workers_that_are_stopped_under_full_load_lose_nothing_and_judge_nothing_twice(
    clean_broker_url: str, database_url: str, tmp_path: Path
) -> None:
    uris = write_pngs(tmp_path / "images", 480)
    environment = settings_for(database_url, clean_broker_url)
    scan = fakesweep("scan", str(tmp_path / "images"), environment=environment).stdout.strip()
    judged, log = tmp_path / "judged", tmp_path / "log"

    def lines() -> int:
        return len(judged.read_text().splitlines()) if judged.exists() else 0

    def started(seconds: str) -> Any:
        module = ["tests.scripted_worker", seconds, NO_POISON, "--judged", str(judged)]
        return running_worker(module, environment, log, 60)

    for _ in range(3):
        before = lines()
        with started("0.02") as running:
            wait_for(lambda: lines() > before + 32, 30, running.process, running.log)  # noqa: B023 - called at once
            asked = time.monotonic()
            assert running.stop(signal.SIGTERM) == 0
            assert time.monotonic() - asked < 30
        assert "images_judged_one_by_one" not in log.read_text(), "a stop makes no image a suspect"
    assert 0 < query(database_url, "SELECT count(*) FROM findings")[0][0] < len(uris), (
        "no stop came before or after the work"
    )
    with started("0") as running:
        _wait_done(scan, environment, running)
    assert "images_judged_one_by_one" not in log.read_text()
    warm_ups = 4  # one image for each start of a worker
    assert lines() - warm_ups == len(uris)
    assert sorted(row["uri"] for row in results_of(scan, environment)) == uris
    assert query(database_url, "SELECT count(*), count(DISTINCT sha256) FROM verdicts") == [(480, 480)]
    assert query(database_url, "SELECT count(*) FROM message_tries") == [(0,)]


@BOTH
def test_a_message_that_is_put_back_is_one_line_in_the_log(
    clean_broker_url: str, database_url: str, tmp_path: Path
) -> None:
    """A second delivery of a message waits for the first one. When the worker stops, it goes back to its queue."""
    payload = {"version": 1, "images": [{"uri": uri} for uri in write_pngs(tmp_path / "images", 3)]}
    judged, log, message_id = tmp_path / "judged", tmp_path / "log", str(uuid.uuid4())
    module = ["tests.scripted_worker", "2", NO_POISON, "--judged", str(judged)]
    with running_worker(module, settings_for(database_url, clean_broker_url), log, 60) as running:
        before = len(judged.read_text())  # from the warm-up
        for _ in range(2):
            publish_plainly(clean_broker_url, LIVE_QUEUE, [[payload], {}, {}], celery_headers(message_id))
        wait_for(lambda: len(judged.read_text()) > before, 30, running.process, log)
        assert running.stop() == 0
    (line,) = (line for line in log.read_text().splitlines() if "put_back" in line or "reject" in line.lower())
    said = json.loads(line)
    assert (said["event"], said["level"], said["cause"]) == ("message_put_back", "warning", "shutting_down")
    assert (said["message_id"], said["queue"], said["reason"]) == (message_id, LIVE_QUEUE, "the worker is stopping")
    assert len(line) < 500
    assert "Traceback" not in log.read_text()
    assert query(database_url, "SELECT count(*) FROM findings") == [(3,)]
    with Connection(clean_broker_url) as connection:
        assert connection.default_channel.queue_declare(LIVE_QUEUE, passive=True).message_count == 1


@BOTH
def test_a_killed_worker_loses_no_image_and_makes_none_a_suspect(
    clean_broker_url: str, database_url: str, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    put(bucket, s3_environment, {f"{number}.png": number for number in range(160)})
    environment = settings_for(database_url, clean_broker_url)
    scan = fakesweep("scan", f"s3://{bucket}/", environment=environment).stdout.strip()
    with worker(SLOW, NO_POISON, environment, tmp_path) as running:
        wait_for(lambda: query(database_url, "SELECT judged FROM scans")[0][0] > 0, 30, running.process, running.log)
        running.process.kill()
        running.process.wait()
    with worker(QUICK, NO_POISON, environment, tmp_path) as running:
        _wait_done(scan, environment, running)
    assert {row["outcome"] for row in results_of(scan, environment)} == {"judged"}
    assert "images_judged_one_by_one" not in running.log.read_text(), "one death makes no image a suspect"
    assert query(database_url, "SELECT count(*) FROM message_tries") == [(0,)]


def _wait_done(scan: str, environment: dict[str, str], running: RunningWorker, timeout_s: float = 60) -> None:
    wait_for(lambda: _is_done(scan, environment), timeout_s, running.process, running.log)


@BOTH
def test_an_image_that_kills_workers_fails_alone(
    clean_broker_url: str, database_url: str, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    put(bucket, s3_environment, {f"{number}.png": number * 10 for number in range(16)})
    environment = settings_for(database_url, clean_broker_url)
    scan = fakesweep("scan", f"s3://{bucket}/", environment=environment).stdout.strip()
    deaths = 0
    for _ in range(6):
        with worker(QUICK, "70", environment, tmp_path) as running:
            wait_for(lambda: _ended_or_done(running, scan, environment), 40)
            if running.process.poll() is None:
                break
            assert running.process.returncode == 139
            deaths += 1
    assert deaths == 4
    rows = results_of(scan, environment)
    assert len(rows) == 16
    assert [row["uri"] for row in rows if row["reason"]] == [f"s3://{bucket}/7.png"]
    left = "SELECT (SELECT count(*) FROM suspects), (SELECT count(*) FROM message_tries)"
    assert query(database_url, left) == [(0, 0)]


def _ended_or_done(running: RunningWorker, scan: str, environment: dict[str, str]) -> bool:
    if running.process.poll() is not None:
        return True
    return _is_done(scan, environment)


def _is_done(scan: str, environment: dict[str, str]) -> bool:
    """Asks Postgres, because a command takes a second."""
    return query(environment["DATABASE_URL"], "SELECT status FROM scans WHERE id = %s", scan) == [("done",)]


@BOTH
def test_no_thread_waits_for_storage_to_come_back(
    clean_broker_url: str, database_url: str, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    """The first worker cannot reach S3 and publishes the image again with a delay. The second one can reach it."""
    put(bucket, s3_environment, {"x.png": 250})
    away = settings_for(
        database_url, clean_broker_url, AWS_ENDPOINT_URL_S3="http://127.0.0.1:9", FAKESWEEP_RETRY_DELAY_S="2"
    )
    scan = fakesweep("scan", f"s3://{bucket}/", environment=settings_for(database_url, clean_broker_url)).stdout.strip()
    with worker(QUICK, NO_POISON, away, tmp_path) as running:
        wait_for(lambda: "images_published_again" in running.log.read_text(), 40, running.process, running.log)
        assert query(database_url, "SELECT count(*) FROM findings") == [(0,)]
        assert running.stop() == 0
    with worker(QUICK, NO_POISON, settings_for(database_url, clean_broker_url), tmp_path) as running:
        _wait_done(scan, away, running)
    (row,) = results_of(scan, away)
    assert (row["verdict"], row["attempts"] > 1) == ("fake", True)


@BOTH
def test_submit_waits_for_its_verdicts(
    clean_broker_url: str, database_url: str, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    put(bucket, s3_environment, {"x.png": 250})
    environment = settings_for(database_url, clean_broker_url)
    with worker(QUICK, NO_POISON, environment, tmp_path):
        done = fakesweep(
            "submit", f"s3://{bucket}/x.png", "--external-id", "post-1", "--wait", "--json", environment=environment
        )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["kind"], answer["fake"]) == ("done", "live", 1)
    assert answer["results"][0]["external_id"] == "post-1"


@BOTH
def test_a_live_image_waits_for_no_message_of_a_scan(
    clean_broker_url: str, database_url: str, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    """When the live image comes, all threads for scans are busy and more messages wait. It is judged before them."""
    put(bucket, s3_environment, {f"{number:02}.png": number for number in range(96)} | {"live.png": 250})
    environment = settings_for(database_url, clean_broker_url, FAKESWEEP_THREADS="2")
    scan = fakesweep("scan", f"s3://{bucket}/", environment=environment).stdout.strip()
    payload, message_id = {"version": 1, "images": [{"uri": f"s3://{bucket}/live.png"}]}, str(uuid.uuid4())
    with worker("2.5", NO_POISON, environment, tmp_path) as running:  # a message of the scan takes 40 s
        held = "SELECT count(*) FROM scans WHERE status = 'running'"
        wait_for(lambda: query(database_url, held) == [(1,)], 30, running.process, running.log)
        publish_plainly(clean_broker_url, LIVE_QUEUE, [[payload], {}, {}], celery_headers(message_id))
        live = "SELECT verdict FROM findings WHERE scan_id = %s"
        wait_for(lambda: query(database_url, live, message_id) == [("fake",)], 30, running.process, running.log)
        assert query(database_url, "SELECT judged FROM scans WHERE id = %s", scan) == [(0,)]
        running.process.kill()  # the test does not need the rest


@BOTH
def test_one_token_is_one_scan(
    clean_broker_url: str, database_url: str, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    put(bucket, s3_environment, {"x.png": 1, "y.png": 2})
    environment = settings_for(database_url, clean_broker_url)
    arguments = ("scan", f"s3://{bucket}/", "--token", "monday", "--json")
    started = [json.loads(fakesweep(*arguments, environment=environment).stdout) for _ in range(2)]
    assert started[0]["scan"] == started[1]["scan"]
    with worker(QUICK, NO_POISON, environment, tmp_path) as running:
        _wait_done(started[0]["scan"], environment, running)
    again = json.loads(fakesweep(*arguments, environment=environment).stdout)
    assert (again["scan"], again["listed"], again["judged"]) == (started[0]["scan"], 2, 2)


@BOTH
def test_retry_judges_what_failed_again_and_nothing_else(
    clean_broker_url: str, database_url: str, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    put(bucket, s3_environment, {"x.png": 250, "y.png": 5})
    boto3.client("s3", endpoint_url=s3_environment).put_object(Bucket=bucket, Key="z.png", Body=b"text")
    environment = settings_for(database_url, clean_broker_url)
    away = environment | {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "FAKESWEEP_RETRY_LIMIT": "0"}
    scan = fakesweep("scan", f"s3://{bucket}/", environment=environment).stdout.strip()
    with worker(QUICK, NO_POISON, away, tmp_path) as running:
        _wait_done(scan, environment, running)
    assert {row["reason"] for row in results_of(scan, environment)} == {"storage_unavailable"}
    assert fakesweep("retry", scan, "--reason", "corrupt", environment=environment).stdout.startswith("0 images")
    assert fakesweep("retry", scan, environment=environment).stdout.startswith("3 images")
    unavailable = "SELECT count(*) FROM findings WHERE reason = 'storage_unavailable'"  # the scan stays done meanwhile
    with worker(QUICK, NO_POISON, environment, tmp_path) as running:
        wait_for(lambda: query(database_url, unavailable) == [(0,)], 60, running.process, running.log)
    rows = {row["uri"].rpartition("/")[2]: row["verdict"] or row["reason"] for row in results_of(scan, environment)}
    assert rows == {"x.png": "fake", "y.png": "real", "z.png": "not_an_image"}
    counts = json.loads(fakesweep("status", scan, "--json", environment=environment).stdout)
    assert (counts["listed"], counts["judged"], counts["failed"]) == (3, 2, 1)
