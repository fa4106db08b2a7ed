"""What people expect of a command line: it says what it does, asks before it deletes, and names what is wrong."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from producers import reviews, tokens
from producers.scans import Listing, start_scan
from tests.integration.test_broker import NO_POISON, QUICK, query, settings_for, worker
from tests.killing import write_pngs
from tests.processes import ROOT, fakesweep, wait_for
from worker.database import Database, transaction
from worker.tables import Scan, ScanStatus, Scope

DONE, FAILED, USAGE = 0, 1, 2
Environment = dict[str, str]


@pytest.fixture
def environment(database_url: str, clean_redis_url: str) -> Environment:
    return settings_for(database_url, clean_redis_url)


def ran(*arguments: str, environment: Environment, code: int = DONE) -> "subprocess.CompletedProcess[str]":
    done = fakesweep(*arguments, environment=environment)
    assert done.returncode == code, done.stderr
    return done


def scan_of(database: Database, **columns: Any) -> str:
    return str(start_scan(database, Listing(sources=("s3://photos/",)), **columns).id)


def ended(database: Database, scan: str) -> None:
    with transaction(database) as session:
        row = session.get_one(Scan, uuid.UUID(scan))
        row.status = ScanStatus.DONE


@pytest.mark.parametrize("columns", ["80", "220"])
def test_an_id_that_status_prints_can_be_used(database: Database, environment: Environment, columns: str) -> None:
    scans = [scan_of(database, name=name) for name in ("one", "a name of some length, as people give them")]
    printed = ran("status", environment=environment | {"COLUMNS": columns}).stdout
    assert all(len(line) <= int(columns) for line in printed.splitlines())
    assert printed.count("listed") == (2 if columns == "80" else 1), (
        "one heading where a table fits, else one for each scan"
    )
    for scan in scans:
        assert scan in printed.split()
        shown = ran("status", scan[:13], environment=environment | {"COLUMNS": "20"}).stdout
        assert scan in shown.split()


def test_status_without_scans_says_how_to_start_one(environment: Environment) -> None:
    assert "fakesweep scan SOURCE" in ran("status", environment=environment).stdout


def asking(database: Database) -> dict[str, tuple[list[str], str]]:
    """Commands that delete or that cannot be undone, each with a query whose answer it changes."""
    running, done, old = (scan_of(database, name=name) for name in ("running", "done", "old"))
    ended(database, done)
    ended(database, old)
    with transaction(database) as session:
        for scan in (done, old):
            session.get_one(Scan, uuid.UUID(scan)).judged = 3
    reviews.add_reviewer(database, "heron", None, ["proxy:anna"])
    tokens.add_token(database, tokens.Wanted("shop", [Scope.READ]))
    return {
        "cancel": (["cancel", running], f"SELECT status FROM scans WHERE id = '{running}'"),
        "drop": (["drop", done], f"SELECT dropped_at FROM scans WHERE id = '{done}'"),
        "token": (["token", "withdraw", "shop"], "SELECT withdrawn_at FROM api_tokens"),
        "reviewer": (["reviewer", "unlink", "heron"], "SELECT count(*) FROM logins"),
    }


@pytest.mark.parametrize("name", ["cancel", "drop", "token", "reviewer"])
def test_a_command_that_cannot_be_undone_asks_first(database: Database, environment: Environment, name: str) -> None:
    command, statement = asking(database)[name]
    before = query(environment["DATABASE_URL"], statement)
    refused = ran(*command, environment=environment, code=USAGE)
    assert (refused.stdout, refused.stderr.count("\n"), "add --yes" in refused.stderr) == ("", 1, True)
    assert typed("n\n", command, environment) == FAILED
    assert query(environment["DATABASE_URL"], statement) == before
    assert typed("y\n", command, environment) == DONE
    assert query(environment["DATABASE_URL"], statement) != before


def test_retention_asks_and_a_dry_run_does_not(database: Database, environment: Environment) -> None:
    scan = scan_of(database)
    ended(database, scan)
    query(environment["DATABASE_URL"], "UPDATE scans SET created_at = now() - interval '9 days' RETURNING 1")
    command = ("retention", "--keep-days", "7")
    assert "would drop" in ran(*command, "--dry-run", environment=environment).stdout
    assert "add --yes" in ran(*command, environment=environment, code=USAGE).stderr
    assert "dropped 0 findings" in ran(*command, "--yes", environment=environment).stdout
    assert ran(*command, environment=environment).stdout == "", "nothing to drop, so nothing to ask"


def typed(answer: str, command: list[str], environment: Environment) -> int:
    """Runs a command in a terminal and types the answer. Returns the exit code."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "producers", *command], cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, **environment},
        )  # fmt: skip
        os.write(ours, answer.encode())
        process.communicate(timeout=60)
        return process.returncode
    finally:
        os.close(ours)
        os.close(theirs)


def test_pausing_or_cancelling_twice_is_no_error(database: Database, environment: Environment) -> None:
    scan = scan_of(database, name="twice")
    for command, options in (("pause", ()), ("cancel", ("--yes",))):
        assert "already" not in ran(command, scan, *options, environment=environment).stdout
        assert "already" in ran(command, scan, environment=environment).stdout
    assert "is cancelled: it cannot be paused" in ran("pause", scan, environment=environment, code=FAILED).stderr


def test_a_scan_without_images_warns(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = ran("scan", str(tmp_path / "empty"), environment=environment)
    assert "lists no image of file:///" in done.stderr
    assert "check its spelling" in done.stderr
    (tmp_path / "empty" / "notes.md").write_text("no image")
    done = ran("scan", str(tmp_path / "empty"), "--suffix", ".jpg", environment=environment)
    assert "skipped (suffix 1)" in done.stderr


def test_a_scan_without_images_fails_where_images_are_required(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = ran("scan", str(tmp_path / "empty"), "--require-images", "--json", environment=environment, code=FAILED)
    assert json.loads(done.stdout)["status"] == "cancelled"
    assert "names no image" in done.stderr.splitlines()[-1]
    write_pngs(tmp_path / "full", 1)
    ran("scan", str(tmp_path / "full"), "--require-images", environment=environment)


def test_a_manifest_without_a_valid_line_fails(environment: Environment, tmp_path: Path) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text("photos/a.jpg\nphotos/b.jpg\n")
    done = ran("scan", str(manifest), environment=environment, code=FAILED)
    assert "all 2 lines of its source are not valid: give s3://bucket/key" in done.stderr.splitlines()[-1]
    manifest.write_text("photos/a.jpg\ns3://photos/b.jpg\n")
    ran("scan", str(manifest), environment=environment)


def test_a_list_with_an_unknown_suffix_is_refused(environment: Environment, tmp_path: Path) -> None:
    listed = tmp_path / "list.lst"
    listed.write_text("s3://photos/a.jpg\n")
    done = ran("scan", str(listed), environment=environment, code=USAGE)
    assert "fakesweep scan - < FILE" in done.stderr
    assert query(environment["DATABASE_URL"], "SELECT count(*) FROM scans") == [(0,)]
    (image,) = write_pngs(tmp_path / "images", 1)
    unnamed = tmp_path / "image"
    unnamed.write_bytes((tmp_path / "images" / image.rpartition("/")[2]).read_bytes())
    ran("scan", str(unnamed), environment=environment)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_history_of_an_unknown_uri_fails(environment: Environment, options: tuple[str, ...]) -> None:
    done = ran("history", "s3://photos/nothing.jpg", *options, environment=environment, code=FAILED)
    assert (done.stdout, "no finding names s3://photos/nothing.jpg" in done.stderr) == ("", True)


def test_results_by_verdict_and_for_a_spreadsheet(environment: Environment, tmp_path: Path) -> None:
    fakes = write_pngs(tmp_path / "images", 2, level=250)
    reals = write_pngs(tmp_path / "images", 3, level=5, start=2)
    with worker(QUICK, NO_POISON, environment, tmp_path):
        scan = ran("scan", str(tmp_path / "images"), "--watch", environment=environment).stdout.strip()
    for wanted, uris in ((["fake"], fakes), (["real"], reals), (["fake", "real"], fakes + reals), (["uncertain"], [])):
        options = [part for verdict in wanted for part in ("--verdict", verdict)]
        lines = ran("results", scan, *options, environment=environment).stdout.splitlines()
        assert [json.loads(line)["uri"] for line in lines] == uris
    text = ran("results", scan, "--verdict", "fake", "--csv", environment=environment).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["uri"], row["verdict"], row["detector"]) for row in rows] == [(u, "fake", "scripted") for u in fakes]
    ran("results", scan, "--csv", "--output", str(tmp_path / "all.csv"), environment=environment)
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 5
    assert ran("results", scan, "--verdict", "false", environment=environment, code=USAGE).stdout == ""


def test_waiting_for_a_submission_ends_at_its_timeout(environment: Environment, tmp_path: Path) -> None:
    (image,) = write_pngs(tmp_path / "images", 1)
    done = ran("submit", image, "--wait", "--timeout", "1", "--json", environment=environment, code=FAILED)
    told = json.loads(done.stdout)
    assert (told["status"], told["results"]) == ("running", [])
    first, absent, *_, last = done.stderr.splitlines()
    assert told["scan"] in first, "the id comes before the wait, so that results can be asked for after Ctrl-C"
    assert "no worker listens to the queue moderation.live: start one with `fakesweep worker`" in absent
    assert "after 1 s, 1 of 1 images have no outcome" in last
    assert f"fakesweep results {told['scan']}" in last
    assert "--wait" in ran("submit", image, "--timeout", "1", environment=environment, code=USAGE).stderr
    with worker(QUICK, NO_POISON, environment, tmp_path):
        done = ran("submit", image, "--wait", "--timeout", "60", environment=environment)
    assert "no worker listens" not in done.stderr


def test_a_submission_can_ask_for_the_judge_of_a_cascade(environment: Environment, tmp_path: Path) -> None:
    (image,) = write_pngs(tmp_path / "images", 1)
    scan = ran("submit", image, "--judge", environment=environment).stdout.strip()
    assert json.loads(ran("status", scan, "--json", environment=environment).stdout)["policy"]["judge"] is True


def test_watching_a_scan_says_that_no_worker_listens(environment: Environment, tmp_path: Path) -> None:
    write_pngs(tmp_path / "images", 3)
    log = tmp_path / "scan.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "producers", "scan", str(tmp_path / "images"), "--watch"], cwd=ROOT, stdout=file,
            stderr=file, env={**os.environ, **environment},
        )  # fmt: skip
    try:
        wait_for(lambda: "no worker listens to the queue moderation.scan" in log.read_text(), 60, process, log)
    finally:
        process.kill()
        process.wait()


def test_the_version(environment: Environment) -> None:
    assert ran("--version", environment=environment).stdout == "fakesweep 0.1.0\n"


def completed(words: str, environment: Environment) -> list[str]:
    """What bash suggests after these words."""
    given = environment | {
        "_FAKESWEEP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1),
    }  # fmt: skip
    return fakesweep(environment=given).stdout.split()


def test_a_shell_completes_commands_and_scans(database: Database, environment: Environment) -> None:
    scan = scan_of(database, name="audit")
    assert "_FAKESWEEP_COMPLETE" in ran("--show-completion", environment=environment | {"SHELL": "/bin/bash"}).stdout
    assert completed("fakesweep stat", environment) == ["status"]
    assert completed(f"fakesweep pause {scan[:5]}", environment) == [scan]
    assert completed("fakesweep results aud", environment) == ["audit"]
    pooled = environment | {"DATABASE_URL": environment["DATABASE_URL"] + "?prepare_threshold=5"}
    assert completed("fakesweep flagged --scan aud", pooled) == ["audit"]


def test_completion_does_not_wait_for_an_unavailable_database(environment: Environment) -> None:
    away = environment | {"DATABASE_URL": "postgresql://postgres@127.0.0.1:9/none"}
    began = time.monotonic()
    assert completed("fakesweep pause a", away) == []
    assert time.monotonic() - began < 60, "a command would wait for longer"


def test_unknown_settings_are_named_once(environment: Environment) -> None:
    done = ran("status", "--json", environment=environment | {"FAKESWEEP_THREDS": "8"})
    assert done.stderr == "fakesweep: no setting has the name FAKESWEEP_THREDS (did you mean FAKESWEEP_THREADS?)\n"
    assert json.loads(done.stdout) == {"scans": []}


def test_a_worker_names_unknown_settings_too(environment: Environment, tmp_path: Path) -> None:
    with worker(QUICK, NO_POISON, environment | {"FAKESWEEP_THREDS": "8"}, tmp_path) as running:
        assert running.log.read_text().count("did you mean FAKESWEEP_THREADS?") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("retention", "--keep-days", "soon"), "must be a whole number (see fakesweep retention --help)"),
        (("flagged", "--limit", "0"), "must be 1 or more (see fakesweep flagged --help)"),
        (("scan", "x", "--fake-from", "2"), "--fake-from must be 1 or less"),
    ],
)
def test_a_wrong_option_is_explained_in_plain_words(
    environment: Environment, arguments: tuple[str, ...], said: str
) -> None:
    assert said in ran(*arguments, environment=environment, code=USAGE).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("submit", "x.png", "--wait", "--timeout", "inf"), "'--timeout': must be a finite number"),
        (("flagged", "--limit", "9" * 23), "'--limit': must be 1000000 or less"),
        (("retention", "--keep-days", "99999999", "--yes"), "'--keep-days': must be 36500 or less"),
        (("scan", "x", "--token", ""), "--token must have 1 or more characters"),
        (("scan", "x", "--suffix", ""), "--suffix must have 1 or more characters"),
        (("scan", "x", "--min-bytes", "2", "--max-bytes", "1"), "--min-bytes must not be above --max-bytes"),
        (
            ("export", "--output", "x", "--since", "0000"),
            "--since '0000' is no time: write it as 2026-11-27T02:00:00+00:00",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused(environment: Environment, arguments: tuple[str, ...], said: str) -> None:
    done = ran(*arguments, environment=environment, code=USAGE)
    assert (done.stdout, said in done.stderr, done.stderr.count("\n")) == ("", True, 1), done.stderr


@pytest.mark.parametrize(
    "source",
    ["S3://photos/a", "s3:/photos", "https://photos.example.org/a", "gs://photos/a", "arn:aws:s3:::photos", "C:\\a",
     "\\\\server\\share", " s3://photos/a", "'s3://photos/a'"],
)  # fmt: skip
def test_a_source_of_another_kind_is_named_as_it_was_given(environment: Environment, source: str) -> None:
    done = ran("scan", source, environment=environment, code=USAGE)
    assert done.stderr == (
        f"fakesweep: {source!r}: not a source: give s3://bucket/prefix, or a folder or file of this machine\n"
    )


def test_what_is_no_image_is_refused(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK\x03\x04\x00\x00")
    (tmp_path / "list.txt").write_text("s3://photos/a.jpg\n")
    for command in ("scan", "submit"):
        done = ran(command, str(tmp_path / "photos.zip"), environment=environment, code=USAGE)
        assert "photos.zip: not an image. If images are packed in it, unpack them" in done.stderr
    done = ran("submit", str(tmp_path / "list.txt"), environment=environment, code=USAGE)
    assert "list.txt: a text file, and not an image. If it is a list" in done.stderr
    assert "`fakesweep scan` takes folders" in ran("submit", str(tmp_path), environment=environment, code=USAGE).stderr
    ran("submit", str(tmp_path / "on-the-disk-of-the-worker.png"), environment=environment)
    assert query(environment["DATABASE_URL"], "SELECT count(*) FROM scans") == [(1,)]


def test_a_scan_whose_name_is_no_text(environment: Environment) -> None:
    done = fakesweep("status", os.fsdecode(b"\xff"), environment=environment)
    assert (done.returncode, "is not UTF-8 text" in done.stderr, done.stderr.count("\n")) == (FAILED, True, 1)


def test_a_long_argument_is_not_repeated(environment: Environment) -> None:
    done = ran("status", "x" * 5000, environment=environment, code=FAILED)
    assert len(done.stderr) < 1100
    assert done.stderr.endswith("`fakesweep status` lists scans\n"), "the remedy stays"


def redirected(line: str, environment: Environment) -> "subprocess.CompletedProcess[str]":
    """Runs a command line with the redirections of a shell."""
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m producers {line}"], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_streams_that_are_closed_or_full(database: Database, environment: Environment, unbuffered: str) -> None:
    environment = {**environment, "PYTHONUNBUFFERED": unbuffered}
    scan = scan_of(database)
    done = redirected(f"cancel {scan} <&-", environment)
    assert (done.returncode, "stdin is not a terminal: add --yes" in done.stderr) == (USAGE, True)
    done = redirected("status --json 2>&-", environment | {"FAKESWEEP_THREDS": "8"})
    assert (done.returncode, len(json.loads(done.stdout)["scans"])) == (DONE, 1), "and no warning on stdout"
    assert redirected("status >&-", environment).returncode == DONE
    done = redirected("status > /dev/full", environment)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (FAILED, "fakesweep: No space left on device")
    for said in (done.stderr, redirected("status | true", environment).stderr):
        assert "Traceback" not in said
        assert "Exception ignored" not in said


def test_a_file_that_cannot_be_written(database: Database, environment: Environment, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "x.jsonl"
    done = ran("results", scan_of(database), "--output", str(path), environment=environment, code=FAILED)
    assert done.stderr == f"fakesweep: {path}: No such file or directory\n"


def test_a_login_without_rights_learns_who_helps(environment: Environment, postgres_server_url: str) -> None:
    login = f"nobody_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {login} LOGIN")
        try:
            url = make_url(environment["DATABASE_URL"]).set(username=login).render_as_string(hide_password=False)
            done = ran("status", environment=environment | {"DATABASE_URL": url}, code=USAGE)
        finally:
            connection.execute(f"DROP ROLE {login}")
    assert (
        "permission denied for table alembic_version: let the owner of the schema run `fakesweep roles" in done.stderr
    )


def test_a_password_in_place_of_a_broker_is_not_shown(environment: Environment) -> None:
    done = ran("dead", "list", environment=environment | {"BROKER_URL": "hunter2"}, code=USAGE)
    assert "BROKER_URL is not a URL: give amqp://" in done.stderr
    assert "hunter2" not in done.stderr
