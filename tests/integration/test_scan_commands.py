"""Scans as an operator runs them: the command line and the worker are processes, and only the engine is scripted."""

import gzip
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest

from tests.conftest import empty_queues
from tests.integration.test_broker import NO_POISON, QUICK, put, query, settings_for, worker
from tests.killing import write_pngs
from tests.processes import ROOT, RunningWorker, fakesweep, results_of, wait_for
from worker import broker
from worker.database import counters
from worker.messages import MAX_IMAGES, SCAN_QUEUE

SLOW = "0.2"
FAKE, REAL = 250, 5
DONE, FAILED, USAGE, PAUSED = 0, 1, 2, 3

Environment = dict[str, str]


@pytest.fixture
def environment(database_url: str, clean_redis_url: str) -> Environment:
    return settings_for(database_url, clean_redis_url)


def ran(*arguments: str, environment: Environment, code: int = DONE) -> subprocess.CompletedProcess[str]:
    done = fakesweep(*arguments, environment=environment)
    assert done.returncode == code, done.stderr
    return done


def told(*arguments: str, environment: Environment, code: int = DONE) -> dict[str, Any]:
    """What a command prints with --json."""
    answer: dict[str, Any] = json.loads(ran(*arguments, "--json", environment=environment, code=code).stdout)
    return answer


def error_of(*arguments: str, environment: Environment, code: int) -> str:
    """The one line that a refused command prints."""
    done = ran(*arguments, environment=environment, code=code)
    (line,) = done.stderr.splitlines()
    assert (line.startswith("fakesweep: "), done.stdout) == (True, "")
    return line


def counted(environment: Environment, statement: str) -> int:
    return int(query(environment["DATABASE_URL"], statement)[0][0])


def decided(environment: Environment) -> int:
    return counted(environment, "SELECT count(*) FROM findings")


def set_aside(environment: Environment) -> int:
    """How many images of a paused scan are kept until it is resumed."""
    images = "SELECT coalesce(sum(jsonb_array_length(message -> 'images')), 0)"
    return counted(environment, f"{images} FROM unpublished, jsonb_array_elements(messages) message")


def status_is(scan: str, wanted: str, environment: Environment) -> Callable[[], bool]:
    def reached() -> bool:
        return query(environment["DATABASE_URL"], "SELECT status FROM scans WHERE id = %s", scan) == [(wanted,)]

    return reached


def wait_done(scan: str, environment: Environment, running: RunningWorker) -> None:
    wait_for(status_is(scan, "done", environment), 60, running.process, running.log)


def judged_by(row: dict[str, Any]) -> tuple[str, str]:
    return row["outcome"], row["verdict"]


def test_several_prefixes_are_one_scan(
    environment: Environment, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    put(bucket, s3_environment, {"a/1.png": FAKE, "a/2.png": REAL, "b/1.png": 251, "c/1.png": 252})
    with worker(QUICK, NO_POISON, environment, tmp_path):
        prefixes = (f"s3://{bucket}/b/", f"s3://{bucket}/a/")
        counts = told("scan", *prefixes, "--watch", "--name", "two", environment=environment)
    assert (counts["status"], counts["listed"], counts["judged"], counts["fake"]) == ("done", 3, 3, 2)
    assert (counts["name"], counts["source"]) == ("two", " ".join(prefixes))
    rows = results_of(counts["scan"], environment)
    assert {row["uri"]: row["verdict"] for row in rows} == {
        f"s3://{bucket}/a/1.png": "fake", f"s3://{bucket}/a/2.png": "real", f"s3://{bucket}/b/1.png": "fake",
    }  # fmt: skip


def test_what_rules_skip_is_counted_by_cause(environment: Environment, bucket: str, s3_environment: str) -> None:
    client = boto3.client("s3", endpoint_url=s3_environment)
    sizes = {"x.png": 60, "y.JPG": 60, "small.png": 49, "least.png": 50, "large.png": 101, "film.mp4": 60, "folder/": 0}
    for key, size in sizes.items():
        client.put_object(Bucket=bucket, Key=key, Body=b"x" * size)
    rules = ("--suffix", ".PNG", "--suffix", ".jpg", "--min-bytes", "50", "--max-bytes", "100")
    counts = told("scan", f"s3://{bucket}/", *rules, environment=environment)
    assert (counts["status"], counts["listed"], counts["skipped"]) == ("running", 3, 4)
    assert counts["skipped_by"] == {"suffix": 1, "too_small": 1, "too_large": 1, "folder_marker": 1}


def test_uris_are_piped_in(environment: Environment, bucket: str, s3_environment: str, tmp_path: Path) -> None:
    put(bucket, s3_environment, {"x.png": FAKE, "y.png": REAL})
    lines = [f"s3://{bucket}/x.png", json.dumps({"uri": f"s3://{bucket}/y.png", "external_id": "post 7"}), "no uri"]
    with worker(QUICK, NO_POISON, environment, tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "producers", "scan", "-", "--watch", "--json"], input="\n".join(lines),
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **environment},
        )  # fmt: skip
    assert done.returncode == DONE, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["listed"], counts["judged"], counts["skipped_by"]) == (2, 2, {"invalid": 1})
    rows = results_of(counts["scan"], environment)
    assert [(row["verdict"], row["external_id"]) for row in rows] == [("fake", None), ("real", "post 7")]


def test_a_scan_that_is_paused_while_it_is_judged_can_be_resumed(environment: Environment, tmp_path: Path) -> None:
    listed = write_pngs(tmp_path / "images", 480)
    scan = ran("scan", str(tmp_path / "images"), environment=environment).stdout.strip()
    with worker(SLOW, NO_POISON, environment, tmp_path) as running:
        wait_for(lambda: decided(environment) > 0, 30, running.process, running.log)
        assert f"fakesweep resume {scan}" in ran("pause", scan, environment=environment).stdout
        before = decided(environment)
        wait_for(lambda: decided(environment) + set_aside(environment) == 480, 30, running.process, running.log)
    after = decided(environment)
    assert after <= before + int(environment["FAKESWEEP_THREADS"]) * MAX_IMAGES < 480
    counts = told("status", scan, environment=environment)
    assert (counts["status"], counts["judged"], counts["note"]) == ("paused", after, "paused by hand")
    with worker(QUICK, NO_POISON, environment, tmp_path):
        counts = told("resume", scan, "--watch", environment=environment)
    assert (counts["status"], counts["listed"], counts["judged"]) == ("done", 480, 480)
    assert [row["uri"] for row in results_of(scan, environment)] == listed
    assert set_aside(environment) == 0


def test_a_pause_ends_the_producer_and_says_how_to_resume(environment: Environment, tmp_path: Path) -> None:
    """There is no worker, so the queue is full and the producer waits until the scan is paused."""
    listed = write_pngs(tmp_path / "images", 5 * MAX_IMAGES)
    full = environment | {"FAKESWEEP_MAX_QUEUE_DEPTH": "2"}
    command = [sys.executable, "-m", "producers", "scan", str(tmp_path / "images")]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **full}
    ) as producer:
        celery = broker.create_app(environment["BROKER_URL"])
        wait_for(lambda: broker.depth(celery, SCAN_QUEUE) == 2, 60)
        ((scan,),) = query(environment["DATABASE_URL"], "SELECT id FROM scans")
        ran("pause", str(scan), environment=environment)
        said, complaint = producer.communicate(timeout=20)
    assert (producer.returncode, said.strip(), decided(environment)) == (PAUSED, str(scan), 0)
    assert f"scan {scan} is paused: paused by hand" in complaint
    assert f"fakesweep resume {scan}" in complaint
    with worker(QUICK, NO_POISON, environment, tmp_path):
        counts = told("resume", str(scan), "--watch", environment=environment)
    assert (counts["status"], counts["listed"], counts["judged"]) == ("done", 80, 80)
    assert [row["uri"] for row in results_of(str(scan), environment)] == listed


def test_a_cancelled_scan_is_not_judged_and_cannot_be_resumed(environment: Environment, tmp_path: Path) -> None:
    write_pngs(tmp_path / "images", 40)
    scan = ran("scan", str(tmp_path / "images"), environment=environment).stdout.strip()
    ran("cancel", scan, "--yes", environment=environment)
    with worker(QUICK, NO_POISON, environment, tmp_path) as running:
        wait_for(lambda: running.log.read_text().count("message_of_ended_scan") == 3, 30, running.process, running.log)
    counts = told("status", scan, environment=environment)
    assert (counts["status"], counts["judged"], decided(environment)) == ("cancelled", 0, 0)
    line = error_of("resume", scan, environment=environment, code=FAILED)
    assert f"scan {scan} is cancelled" in line


def test_repair_brings_back_what_was_lost(environment: Environment, tmp_path: Path) -> None:
    listed = write_pngs(tmp_path / "images", 60)
    with worker(QUICK, NO_POISON, environment, tmp_path) as running:
        first = ran("scan", str(tmp_path / "images"), environment=environment).stdout.strip()
        wait_done(first, environment, running)
    listed += write_pngs(tmp_path / "images", 40, start=60)
    scan = told("scan", str(tmp_path / "images"), environment=environment)
    assert (scan["status"], scan["reused"]) == ("running", 60)
    empty_queues(environment["BROKER_URL"])
    with worker(QUICK, NO_POISON, environment, tmp_path):
        counts = told("repair", scan["scan"], "--watch", environment=environment)
    assert (counts["status"], counts["listed"], counts["judged"], counts["reused"]) == ("done", 100, 40, 60)
    assert [row["uri"] for row in results_of(scan["scan"], environment)] == listed


def test_a_scan_that_passes_its_limit_says_so_once(environment: Environment, tmp_path: Path) -> None:
    images = counters.LIMITS_AFTER + 8 * MAX_IMAGES
    write_pngs(tmp_path / "images", images, level=FAKE)
    folder = str(tmp_path / "images")
    with worker(QUICK, NO_POISON, environment, tmp_path):
        done = ran("scan", folder, "--watch", environment=environment, code=PAUSED)
        scan = done.stdout.strip()
        (line,) = [line for line in done.stderr.splitlines() if "paused" in line]
        assert f"scan {scan} is paused" in line
        assert "images are flagged; the limit is a share of 0.4" in line
        assert f"fakesweep resume {scan}" in line
        assert decided(environment) < images
        counts = told("resume", scan, "--watch", environment=environment)
    assert (counts["status"], counts["judged"], counts["share_flagged"], counts["note"]) == ("done", images, 1, None)
    counts = told("scan", folder, environment=environment, code=PAUSED)
    assert (counts["status"], counts["reused"]) == ("paused", images), "reused images count like judged ones"
    counts = told("scan", folder, "--max-flagged-share", "1", environment=environment)
    assert (counts["status"], counts["reused"], counts["judged"]) == ("done", images, 0)


def test_a_second_scan_reuses_and_a_rejudging_one_does_not(
    environment: Environment, bucket: str, s3_environment: str, tmp_path: Path
) -> None:
    put(bucket, s3_environment, {"x.png": FAKE, "y.png": REAL})
    source = f"s3://{bucket}/"
    with worker(QUICK, NO_POISON, environment, tmp_path):
        first = told("scan", source, "--watch", environment=environment)
        second = told("scan", source, environment=environment)
        third = told("scan", source, "--rejudge", "--watch", environment=environment)
    assert (second["status"], second["reused"], second["judged"]) == ("done", 2, 0)
    assert (third["status"], third["reused"], third["judged"]) == ("done", 0, 2)
    found = told("history", f"{source}x.png", environment=environment)["findings"]
    assert [(row["scan"], *judged_by(row)) for row in found] == [
        (third["scan"], "judged", "fake"), (second["scan"], "reused", "fake"), (first["scan"], "judged", "fake"),
    ]  # fmt: skip
    (flagged,) = told("flagged", "--unreviewed", "--new-since", "2026-01-01", environment=environment)["contents"]
    assert (flagged["first_flagged_scan_id"], flagged["last_flagged_scan_id"]) == (first["scan"], third["scan"])
    assert (flagged["places"], flagged["last_flagged_uri"]) == (1, f"{source}x.png")
    assert told("flagged", "--new-since", "2999-01-01", environment=environment)["contents"] == []
    assert told("flagged", "--scan", second["scan"], environment=environment)["contents"] == [flagged]
    assert ran("flagged", environment=environment).stdout.split("\t")[1:4] == [
        "fake 0.980",
        "1 place",
        f"{source}x.png",
    ]
    assert "is no time" in error_of("flagged", "--new-since", "yesterday", environment=environment, code=2)
    lines = ran("history", f"{source}y.png", environment=environment).stdout.splitlines()
    assert [line.split("\t")[1:3] for line in lines] == [["real 0.020", f"{source}y.png"]] * 3


def test_what_the_status_of_a_scan_does_not_allow_gives_one_line(environment: Environment, bucket: str) -> None:
    nobody = str(uuid.uuid4())
    line = error_of("pause", nobody, environment=environment, code=FAILED)
    assert f"there is no scan {nobody}" in line
    done = told("scan", f"s3://{bucket}/", environment=environment)
    assert (done["status"], done["listed"]) == ("done", 0)
    for command in ("resume", "cancel"):
        line = error_of(command, done["scan"], environment=environment, code=FAILED)
        assert f"scan {done['scan']} is done" in line


def test_a_token_is_one_scan_with_one_set_of_options(environment: Environment, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pngs(tmp_path / name, 3)
    one, two = (str(tmp_path / name) for name in ("one", "two"))
    scan = told("scan", one, "--token", "T", environment=environment)["scan"]
    assert told("scan", one, "--token", "T", environment=environment)["scan"] == scan
    for other in ((two,), (one, "--rejudge"), (one, "--fake-from", "0.9"), (one, "--suffix", ".png")):
        line = error_of("scan", *other, "--token", "T", environment=environment, code=FAILED)
        assert f"token T is scan {scan}" in line
    ran("cancel", scan, "--yes", environment=environment)
    assert "is cancelled" in ran("scan", one, "--token", "T", environment=environment, code=FAILED).stderr


def test_a_listing_that_fails_says_how_to_resume(environment: Environment, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv.gz"
    manifest.write_bytes(gzip.compress(b"".join(b"s3://b/%d,\n" % number for number in range(100)))[:-20])
    done = ran("scan", str(manifest), environment=environment, code=FAILED)
    first, *_, remedy, error = done.stderr.splitlines()
    scan = first.split()[-1]
    assert f"fakesweep resume {scan}" in remedy
    assert "m.csv.gz" in error
    assert told("status", scan, environment=environment)["status"] == "listing"


def test_a_wrong_command_line_makes_no_scan(environment: Environment, tmp_path: Path) -> None:
    several = error_of("scan", "s3://b/", str(tmp_path), environment=environment, code=USAGE)
    assert "several sources must all be s3://" in several
    gone = error_of("scan", str(tmp_path / "gone"), environment=environment, code=USAGE)
    assert "not found" in gone
    rules = error_of("scan", str(tmp_path), "--min-bytes", "5", "--max-bytes", "3", environment=environment, code=USAGE)
    assert "--min-bytes must not be above --max-bytes" in rules
    assert "--min-bytes" in error_of("scan", str(tmp_path), "--min-bytes", "-1", environment=environment, code=USAGE)
    assert counted(environment, "SELECT count(*) FROM scans") == 0


def test_results_replace_a_file_only_when_they_are_whole(environment: Environment, tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    output.write_text("before")
    unknown = error_of("results", str(uuid.uuid4()), "--output", str(output), environment=environment, code=FAILED)
    assert "there is no scan" in unknown
    assert output.read_text() == "before"
    write_pngs(tmp_path / "images", 1)
    scan = told("scan", str(tmp_path / "images"), environment=environment)["scan"]
    ran("results", scan, "--output", str(output), environment=environment)
    assert output.read_text() == "", "no image is judged yet"
    assert {path.name for path in tmp_path.iterdir()} == {"images", output.name}


def test_a_scan_that_stands_still_is_named(environment: Environment, bucket: str, s3_environment: str) -> None:
    put(bucket, s3_environment, {"1.png": FAKE})
    scan = told("scan", f"s3://{bucket}/", "--name", "forgotten", environment=environment)["scan"]

    def stalled() -> list[str]:
        scans = told("status", environment=environment)["scans"]
        return [one["scan"] for one in scans if one["stalled_s"] is not None]

    assert stalled() == []
    assert "stands still" not in ran("status", scan, environment=environment).stderr
    with psycopg.connect(environment["DATABASE_URL"]) as connection:
        connection.execute("UPDATE scans SET created_at = now() - interval '2 hours'")
    assert stalled() == [scan]
    assert 7200 <= told("status", scan, environment=environment)["stalled_s"] < 7300
    for arguments in (["status"], ["status", scan]):
        line, absent = ran(*arguments, environment=environment).stderr.splitlines()
        assert "no worker listens" in absent
        assert all(
            part in line for part in (scan, "forgotten", "stands still", "2:00:", "1 images have none", "dead list")
        )
    ran("pause", scan, environment=environment)
    assert stalled() == [], "a paused scan is not meant to move"
