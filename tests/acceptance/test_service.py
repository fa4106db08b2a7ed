"""The whole job as an operator runs it: commands and workers are processes, and vLLM runs the demo detector."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest

from deploy.demo.draw import draw_record
from tests.conftest import DEMO_DETECTOR, drop_database, make_template, url_of
from tests.processes import ROOT, RunningWorker, fakesweep, results_of, running_worker, wait_for

DRAWN = 60
BROKEN = {"text.jpg": b"hello", "empty.png": b"", "ünï cödé+%.jpg": b"\xff\xd8\xff\xe0" + b"\x00" * 50}
DIFFERENT = ("decided_at", "score", "explanation")
"""What may differ between two runs: the engine batches images differently, which changes sums of floats a little."""
COPIES = 6
"""How often each image is copied in the scan that is stopped. They take more than half a minute, so that the scan is
not done when a command starts slowly."""


def environment_for(database_url: str, broker_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "BROKER_URL": broker_url,
        "FAKESWEEP_DETECTOR": str(DEMO_DETECTOR),
        "FAKESWEEP_THREADS": "4",
        "FAKESWEEP_MAX_NUM_SEQS": "64",
        "FAKESWEEP_GPU_MEMORY_UTILIZATION": "0.2",
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "images").mkdir()
    for index in range(DRAWN):
        draw_record(index, seed=4, folder=folder)
    return folder / "images"


def fill(bucket: str, url: str, folder: Path, prefix: str, copies: int = 1) -> int:
    """Puts the drawn images and the broken files under the prefix. Returns how many. Copies end in different bytes."""
    client = boto3.client("s3", endpoint_url=url)
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | BROKEN
    for copy in range(copies):
        for name, data in files.items():
            client.put_object(Bucket=bucket, Key=f"{prefix}{copy}-{name}", Body=data + b"." * copy)
    return len(files) * copies


def comparable(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["uri"]: {key: value for key, value in row.items() if key not in DIFFERENT} for row in rows}


@pytest.fixture
def embedded(embedded_postgres_url: str, embedded_redis_url: str) -> Iterator[dict[str, str]]:
    name, drop = make_template(embedded_postgres_url)
    yield environment_for(url_of(embedded_postgres_url, name), embedded_redis_url)
    drop()


@pytest.mark.rabbitmq
@pytest.mark.timeout(900)
def test_services_and_embedded_parts_give_the_same_results(
    clean_amqp_url: str,
    postgres_server_url: str,
    embedded: dict[str, str],
    bucket: str,
    s3_environment: str,
    drawn: Path,
    tmp_path: Path,
) -> None:
    name = f"fakesweep_test_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    services = environment_for(url_of(postgres_server_url, name), clean_amqp_url)
    total = fill(bucket, s3_environment, drawn, "one/")
    found: list[list[dict[str, Any]]] = []
    try:
        for kind, environment in (("services", services), ("embedded", embedded)):
            assert fakesweep("migrate", environment=environment).returncode == 0
            with running_worker(["producers", "worker"], environment, tmp_path / f"{kind}.log") as running:
                done = fakesweep("scan", f"s3://{bucket}/one/", "--watch", "--json", environment=environment)
                assert done.returncode == 0, done.stderr
                counts = json.loads(done.stdout)
                found.append(results_of(counts["scan"], environment))
                assert (counts["status"], counts["listed"], counts["failed"]) == ("done", total, len(BROKEN))
                assert counts["judged"] + counts["reused"] == DRAWN
                if kind == "services":
                    fill(bucket, s3_environment, drawn, "two/", COPIES)
                    _stop_in_the_middle(f"s3://{bucket}/two/", environment, running)
    finally:
        drop_database(postgres_server_url, name)
    assert comparable(found[0]) == comparable(found[1])
    for one, other in zip(*found, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
    alike = sum(one["explanation"] == other["explanation"] for one, other in zip(*found, strict=True))
    assert alike >= 0.95 * total  # where two words are equally likely, the model may choose either
    assert {row["verdict"] for row in found[0]} >= {"fake", "real", None}
    assert all(row["explanation"] for row in found[0] if row["verdict"] == "fake")


def _stop_in_the_middle(source: str, environment: dict[str, str], running: RunningWorker) -> None:
    """Stops the worker with SIGTERM after the first message of a scan. `--explain all` reuses no verdict here."""
    scan = fakesweep("scan", source, "--explain", "all", environment=environment).stdout.strip()
    decided_now = "SELECT count(*) FROM findings WHERE scan_id = %s"

    def begun() -> bool:
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            return bool((connection.execute(decided_now, [scan]).fetchone() or (0,))[0])

    wait_for(begun, 60, running.process, running.log)
    asked = time.monotonic()
    assert running.stop(signal.SIGTERM) == 0
    assert time.monotonic() - asked < 30
    with psycopg.connect(environment["DATABASE_URL"]) as connection:
        statement = "SELECT count(*), count(DISTINCT (sha256, explain)) FROM verdicts"
        count, distinct = connection.execute(statement).fetchone() or (0, 1)
        listed, decided = connection.execute(
            "SELECT listed, (SELECT count(*) FROM findings WHERE scan_id = scans.id) FROM scans WHERE id = %s", [scan]
        ).fetchone() or (0, 0)
    assert count == distinct
    assert 0 < decided < listed


WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"FAKESWEEP_DETECTOR": "nobody"}, "FAKESWEEP_DETECTOR", "folder with detector.toml"),
    ({"DATABASE_URL": ""}, "DATABASE_URL", "postgresql://user:password@host"),
    ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}, "DATABASE_URL", "cannot be used"),
    ({"DATABASE_URL": "mysql://u@h/d"}, "DATABASE_URL", "only postgresql://"),
    ({"BROKER_URL": ""}, "BROKER_URL", "amqp://user:password@host"),
    ({"BROKER_URL": "amqp://guest:guest@127.0.0.1:9//"}, "BROKER_URL", "cannot use"),
    ({"BROKER_URL": "redis://127.0.0.1:9/0"}, "BROKER_URL", "cannot use"),
    ({"BROKER_URL": "carrier-pigeon://x"}, "BROKER_URL", "carrier-pigeon"),
    ({"BROKER_URL": "redis://:se#cret@h/0"}, "BROKER_URL", "kombu"),
    ({"DATABASE_URL": "postgresql://u:p@h:abc/d"}, "DATABASE_URL", "postgresql://user:password@host"),
    ({"DATABASE_URL": "postgresql:///db?foo=1"}, "DATABASE_URL", "foo"),
    ({"FAKESWEEP_THREADS": "many"}, "FAKESWEEP_THREADS", "whole number"),
    ({"FAKESWEEP_ENGINE": "onnx"}, "FAKESWEEP_ENGINE", "vllm"),
]
"""Variables of a worker, the setting that its error names, and a word of the remedy."""
STARTING = """
import json, os, sys
from producers.__main__ import main

given = dict(os.environ)
faults = json.loads(sys.argv[1])
sys.argv[1:] = ["worker"]
for wrong in faults:
    os.environ.clear()
    os.environ.update(given | wrong)
    try:
        main()
    except SystemExit as ended:
        print("ended with", ended.code, file=sys.stderr)
"""


def test_a_worker_with_bad_configuration_says_one_line_and_ends_with_2(database_url: str, redis_url: str) -> None:
    started = time.monotonic()
    wrong = {"FAKESWEEP_MODEL": "/no/such/folder"}
    done = fakesweep("worker", environment=environment_for(database_url, redis_url) | wrong, timeout_s=30)
    assert done.returncode == 2, done.stderr
    _check_one_line(done.stderr, "FAKESWEEP_MODEL", "give a model folder")
    assert time.monotonic() - started < 10


def test_each_bad_setting_is_named_with_its_remedy(database_url: str, redis_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTING, json.dumps([wrong for wrong, _, _ in WRONG])],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | environment_for(database_url, redis_url),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *said, rest = done.stderr.split("ended with 2\n")
    assert rest == ""
    for stderr, (_, setting, remedy) in zip(said, WRONG, strict=True):
        _check_one_line(stderr, setting, remedy)


def _check_one_line(stderr: str, setting: str, remedy: str) -> None:
    said = [line for line in stderr.splitlines() if line.startswith("fakesweep")]
    assert len(said) == 1, stderr
    assert setting in said[0]
    assert remedy in said[0]
    assert "guest:guest" not in stderr
    assert "Traceback" not in stderr
    assert "'se'" not in stderr


def test_an_empty_database_is_refused_until_ten_migrations_at_once_fill_it(
    postgres_server_url: str, redis_url: str
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    name = f"fakesweep_test_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    environment = environment_for(url_of(postgres_server_url, name), redis_url)
    try:
        for command in ("worker", "status"):
            refused = fakesweep(command, environment=environment)
            assert refused.returncode == 2
            assert "fakesweep migrate" in refused.stderr
        with ThreadPoolExecutor(10) as pool:
            done = list(pool.map(lambda _: fakesweep("migrate", environment=environment), range(10)))
        assert {run.returncode for run in done} == {0}
        assert fakesweep("status", "--json", environment=environment).stdout.strip() == '{"scans": []}'
    finally:
        drop_database(postgres_server_url, name)


def test_commands_name_what_is_wrong(database_url: str, redis_url: str) -> None:
    environment = environment_for(database_url, redis_url)
    nobody = str(uuid.uuid4())
    for arguments, code, said in [
        (("scan", "/no/such/folder"), 2, "/no/such/folder"),
        (("status", nobody), 1, nobody),
        (("results", nobody), 1, nobody),
        (("submit", "http://example.org/a.jpg"), 2, "s3://"),
        (("status", "no-such-scan"), 1, "no-such-scan"),
        (("scan",), 2, "SOURCE"),
        (("sing",), 2, "sing"),
        (("submit", "s3://b/1", "s3://b/2", "--external-id", "x"), 2, "--external-id"),
    ]:
        done = fakesweep(*arguments, environment=environment)
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_report_of_a_scan_is_one_file(clean_redis_url: str, database_url: str, tmp_path: Path, drawn: Path) -> None:
    wait = {"FAKESWEEP_THREADS": "2"}
    environment = environment_for(database_url, clean_redis_url) | wait
    with running_worker(["tests.scripted_worker", "0", "-1"], environment, tmp_path / "worker.log"):
        done = fakesweep("scan", str(drawn), "--watch", environment=environment)
        scan = done.stdout.strip()
        assert done.returncode == 0, done.stderr
    output = tmp_path / "report.html"
    assert fakesweep("report", scan, "--output", str(output), environment=environment).returncode == 0
    page = output.read_text(encoding="utf-8")
    assert scan in page
    assert str(DRAWN) in page
