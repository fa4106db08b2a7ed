"""What real processes serve to Prometheus: a worker under load, `fakesweep nightly`, and a listener."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from producers import scans
from tests.integration.test_broker import NO_POISON, celery_headers, grey, publish_plainly, query, settings_for, worker
from tests.integration.test_listen import event
from tests.processes import ROOT, fakesweep, free_port, wait_for
from worker.database import Database
from worker.messages import LIVE_QUEUE, SCAN_QUEUE

Figures = Mapping[tuple[str, ...], float]


def port_of(log: Path, event_name: str) -> int:
    """The port that a process says it listens on."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return next(int(line["port"]) for line in lines if line["event"] == event_name)


def scraped(port: int) -> dict[str, Figures]:
    """The samples of /metrics that are not 0, by their name and the values of their labels."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        text = response.read().decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = tuple(sample.labels[label] for label in sorted(sample.labels))
            found.setdefault(sample.name, {})[values] = sample.value
    return {name: {values: value for values, value in one.items() if value} for name, one in found.items()}


@contextmanager
def running(
    arguments: list[str], environment: dict[str, str], log: Path, ready: str
) -> Iterator[subprocess.Popen[Any]]:
    """A running command that has logged the event `ready`."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "producers", *arguments], cwd=ROOT, stdout=file, stderr=file,
            env={**os.environ, **environment},
        )  # fmt: skip
    try:
        wait_for(lambda: f'"{ready}"' in log.read_text(), 60, process, log)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_what_a_worker_serves_agrees_with_the_findings(
    clean_redis_url: str, database_url: str, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    s3 = boto3.client("s3", endpoint_url=s3_environment)
    for n in range(200):
        content = (
            b"no image" if n % 17 == 0 else b"" if n % 19 == 0 else grey(n * 10 % 256)
        )  # some have the same content
        s3.put_object(Bucket=bucket, Key=f"{n:03}.png", Body=content)
    environment = settings_for(database_url, clean_redis_url, FAKESWEEP_HEALTH_PORT="0")
    with worker("0.002", NO_POISON, environment, tmp_path) as at_work:
        options = ("--watch", "--max-flagged-share", "1", "--max-failed-share", "1")
        done = fakesweep("scan", f"s3://{bucket}/", *options, environment=environment)
        assert done.returncode == 0, done.stderr
        again = fakesweep("scan", f"s3://{bucket}/", "--rejudge", *options, environment=environment)
        assert again.returncode == 0, again.stderr
        live = [f"s3://{bucket}/{name}.png" for name in ("001", "002", "gone")]
        assert fakesweep("submit", *live, "--wait", environment=environment).returncode == 0
        publish_plainly(clean_redis_url, LIVE_QUEUE, [[{"version": 9}], {}, {}], celery_headers("valid for Celery"))
        publish_plainly(clean_redis_url, SCAN_QUEUE, [], celery_headers("not even that"))
        port = port_of(at_work.log, "health_listening")
        wait_for(lambda: sum(scraped(port)["fakesweep_dead_letters_total"].values()) == 2, 20)
        wait_for(lambda: not scraped(port)["fakesweep_images_in_flight"], 20)
        figures = scraped(port)
    outcomes = """SELECT outcome, 'moderation.' || kind, coalesce(reason, ''), coalesce(verdict, ''), count(*)
                  FROM findings JOIN scans ON scans.id = scan_id GROUP BY 1, 2, 3, 4"""
    found = {tuple(values): count for *values, count in query(database_url, outcomes)}
    assert figures["fakesweep_images_total"] == found
    assert sum(found.values()) == 403
    reused = sum(count for (outcome, *_), count in found.items() if outcome == "reused")
    assert sum(figures["fakesweep_images_reused_total"].values()) == reused
    tokens = Counter[str]()
    for (kind, _queue), count in figures["fakesweep_tokens_total"].items():
        tokens[kind] += int(count)
    spent = query(database_url, "SELECT sum(prompt_tokens), sum(completion_tokens) FROM verdicts")
    assert spent == [(tokens["prompt"], tokens["completion"])]
    assert figures["fakesweep_message_wait_seconds_count"] == {(LIVE_QUEUE,): 1, (SCAN_QUEUE,): 26}
    assert figures["fakesweep_dead_letters_total"] == {("invalid", LIVE_QUEUE): 1, ("invalid", SCAN_QUEUE): 1}
    assert figures["fakesweep_worker_ready"] == {(): 1}
    assert figures["fakesweep_worker_info"] == {("scripted", ""): 1}
    assert figures["process_resident_memory_bytes"]


REPLICAS = """
import asyncio, sys
from worker.replicas import Replicas
command = (sys.executable, "-m", "tests.scripted_worker", "0", "-1")
sys.exit(asyncio.run(Replicas({0: "0", 3: "1"}, int(sys.argv[1]), command=command).run()))
"""


def test_each_replica_has_its_own_port_and_label(clean_redis_url: str, database_url: str, tmp_path: Path) -> None:
    base = four_free_ports()
    environment = os.environ | settings_for(database_url, clean_redis_url)
    log = tmp_path / "replicas.log"
    with log.open("wb") as file:
        command = [sys.executable, "-c", REPLICAS, str(base)]
        parent = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=environment)
    try:
        wait_for(lambda: log.read_text().count('"worker_ready"') == 2, 90, parent, log)
        for number in (0, 3):
            assert scraped(base + number)["fakesweep_worker_info"] == {("scripted", str(number)): 1}
        parent.terminate()
        assert parent.wait(30) == 0
    finally:
        parent.kill()


def four_free_ports() -> int:
    """The first of four consecutive ports. Nothing listened on the first and the last one a moment ago."""
    while True:
        base = free_port()
        with suppress(OSError), closing(socket.create_server(("", base + 3))):
            return base


def nightly_environment(database_url: str, broker_url: str, folder: Path, *, port: int = 0) -> dict[str, str]:
    """Settings for one schedule, which scans the folder's `images`."""
    file = folder / "nightly.toml"
    file.write_text(f'[photos]\ncrontab = "0 0 * * *"\nsource = "{folder / "images"}"\n')
    more = {"FAKESWEEP_NIGHTLY": str(file), "FAKESWEEP_NIGHTLY_PORT": str(port)}
    return settings_for(database_url, broker_url, **more)


def without_the_view(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("DROP VIEW IF EXISTS review_queue CASCADE")


def test_what_nightly_serves(clean_redis_url: str, database_url: str, database: Database, tmp_path: Path) -> None:
    without_the_view(database_url)
    folder = tmp_path / "images"
    folder.mkdir()
    for level in range(0, 200, 10):
        (folder / f"{level}.png").write_bytes(grey(level))
    long_ago = datetime.now(UTC) - timedelta(days=3)  # so that a scan is due at once
    listing = scans.Listing(sources=("s3://gone/",))
    old = scans.start_scan(database, listing, name="photos", token="old", schedule="photos", due_at=long_ago)
    scans.cancel(database, old.id)
    environment = nightly_environment(database_url, clean_redis_url, tmp_path)
    log = tmp_path / "nightly.log"
    with running(["nightly"], environment, log, "metrics_listening") as nightly:
        port = port_of(log, "metrics_listening")
        wait_for(lambda: bool(scraped(port)["fakesweep_producer_images_published_total"]), 60, nightly, log)
        figures = scraped(port)
        nightly.send_signal(signal.SIGTERM)
        assert nightly.wait(20) == 0
    assert figures["fakesweep_producer_images_listed_total"] == {(): 20}
    assert figures["fakesweep_producer_images_published_total"] == {(): 20}
    assert figures["fakesweep_producer_images_known_total"] == {}
    assert "fakesweep_review_backlog" not in figures, "it is not known"
    assert {"fakesweep_queue_images", "fakesweep_schedule_overdue_seconds", "fakesweep_drift_alarms"} <= figures.keys()
    assert "Traceback" not in log.read_text()


def test_the_review_backlog_is_that_of_the_view(clean_redis_url: str, database_url: str, tmp_path: Path) -> None:
    without_the_view(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE VIEW review_queue AS SELECT n FROM generate_series(1, 5) AS n")
    log = tmp_path / "nightly.log"
    environment = nightly_environment(database_url, clean_redis_url, tmp_path)
    with running(["nightly"], environment, log, "metrics_listening") as nightly:
        port = port_of(log, "metrics_listening")
        wait_for(lambda: "fakesweep_review_backlog" in scraped(port), 20, nightly, log)
        assert scraped(port)["fakesweep_review_backlog"] == {(): 5}


def test_what_a_listener_serves(
    clean_redis_url: str, database_url: str, s3_environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_environment)
    sqs: Any = boto3.client("sqs", endpoint_url=s3_environment)
    url = sqs.create_queue(QueueName=f"events-{uuid.uuid4().hex[:12]}")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=event("a.png", "b.png", "c.png"))
    sqs.send_message(QueueUrl=url, MessageBody="no event")
    log = tmp_path / "listen.log"
    environment = settings_for(database_url, clean_redis_url, FAKESWEEP_LISTEN_PORT="0")
    with running(["listen", url], environment, log, "metrics_listening") as listener:
        port = port_of(log, "metrics_listening")
        wait_for(lambda: bool(scraped(port)["fakesweep_dead_letters_total"]), 30, listener, log)
        wait_for(lambda: bool(scraped(port)["fakesweep_producer_images_published_total"]), 30, listener, log)
        figures = scraped(port)
    assert figures["fakesweep_producer_images_published_total"] == {(): 3}
    assert figures["fakesweep_dead_letters_total"] == {("invalid", "sqs"): 1}


def test_a_port_in_use_is_named_with_its_setting(clean_redis_url: str, database_url: str, tmp_path: Path) -> None:
    with closing(socket.create_server(("", 0))) as other:
        port = other.getsockname()[1]
        environment = nightly_environment(database_url, clean_redis_url, tmp_path, port=port)
        done = fakesweep("nightly", environment=environment)
    assert done.returncode == 2
    assert f"FAKESWEEP_NIGHTLY_PORT: cannot listen on port {port}" in done.stderr
