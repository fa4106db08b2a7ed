"""`fakesweep web` as a process: how it starts, what it says, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psycopg
import pytest
from sqlalchemy import text

from producers.web.serve import PATIENCE
from tests.desk import csrf_of
from tests.processes import ROOT, fakesweep, wait_for
from worker.database import connect, transaction

SECRET = "s" * 32
DEMO = {"FAKESWEEP_WEB_SECRET": SECRET, "FAKESWEEP_WEB_LOGIN": "demo", "FAKESWEEP_WEB_PORT": "0"}


@pytest.fixture
def environment(database_url: str, clean_redis_url: str) -> dict[str, str]:
    return {**DEMO, "DATABASE_URL": database_url, "BROKER_URL": clean_redis_url}


@contextmanager
def running(environment: dict[str, str], log: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """A web process that listens, and its address."""
    out = log.with_suffix(".out")
    with log.open("wb") as errors, out.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "producers", "web"], cwd=ROOT, stdout=said, stderr=errors,
            env={**os.environ, **environment},
        )  # fmt: skip
    try:
        wait_for(lambda: out.read_text().endswith("\n"), 60, process, log)
        yield process, out.read_text().strip()
    finally:
        process.kill()
        process.wait()


def test_queries_of_the_desk_have_short_timeouts_and_no_jit(database_url: str) -> None:
    with transaction(connect(database_url, patience=PATIENCE)) as session:
        told = [session.execute(text(f"SHOW {name}")).scalar() for name in ("jit", "lock_timeout", "statement_timeout")]
    assert told == ["off", "3s", "20s"]


def test_the_web_process_answers_until_sigterm(environment: dict[str, str], tmp_path: Path) -> None:
    assert fakesweep("reviewer", "add", "heron", environment=environment).returncode == 0
    log = tmp_path / "log"
    with running(environment, log) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert "heron" in httpx2.get(f"{address}/login").text
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    lines = log.read_text().splitlines()
    assert all(line.startswith("{") for line in lines), lines
    assert '"web_stopped"' in lines[-1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"FAKESWEEP_WEB_SECRET": ""}, "FAKESWEEP_WEB_SECRET is not set: make one with python3 -c"),
        ({"FAKESWEEP_WEB_SECRET": "short"}, "FAKESWEEP_WEB_SECRET has 5 characters, and needs 32"),
        ({"FAKESWEEP_WEB_HOST": "0.0.0.0"}, "lets anybody in: FAKESWEEP_WEB_HOST must be 127.0.0.1"),
        ({"FAKESWEEP_WEB_TRUSTED_PROXIES": "127.0.0.1"}, "FAKESWEEP_WEB_TRUSTED_PROXIES empty"),
        ({"FAKESWEEP_WEB_PORT": "x"}, "FAKESWEEP_WEB_PORT is not valid"),
        ({"FAKESWEEP_WEB_LOGIN": "oidc"}, "FAKESWEEP_WEB_URL is not set: give an https address"),
        ({"BROKER_URL": ""}, "BROKER_URL is not set"),
        ({"BROKER_URL": "kafka://127.0.0.1/0"}, "BROKER_URL: kafka://… is not a URL that kombu knows"),
        ({"BROKER_URL": "redis://127.0.0.1:port/0"}, "BROKER_URL: redis://… is not a URL"),
    ],
)
def test_a_wrong_setting_gives_one_line(environment: dict[str, str], changes: dict[str, str], said: str) -> None:
    done = fakesweep("web", environment=environment | changes)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr


def test_missing_packages_give_one_line(environment: dict[str, str]) -> None:
    script = (
        "import sys; sys.modules['uvicorn'] = None; sys.argv = ['fakesweep', 'web'];"
        "from producers.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "install fakesweep[web]" in done.stderr


def test_a_port_in_use_is_named(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = fakesweep("web", environment=environment | {"FAKESWEEP_WEB_PORT": port})
    assert (done.returncode, done.stderr.count("FAKESWEEP_WEB_PORT: cannot listen")) == (2, 1), done.stderr


def test_the_web_process_works_behind_a_proxy(environment: dict[str, str], tmp_path: Path) -> None:
    """It answers behind TLS under the name that the proxy passes on, and writes no secret into its log."""
    behind = {
        "FAKESWEEP_WEB_LOGIN": "proxy", "FAKESWEEP_WEB_URL": "https://desk.example",
        "FAKESWEEP_WEB_PROXY_SECRET": SECRET, "FAKESWEEP_WEB_TRUSTED_PROXIES": "127.0.0.1",
    }  # fmt: skip
    assert fakesweep("reviewer", "add", "heron", "--login", "proxy:anna", environment=environment).returncode == 0
    log = tmp_path / "log"
    with running(environment | behind, log) as (_, address):
        assert address == "https://desk.example"
        port = json.loads(next(line for line in log.read_text().splitlines() if "web_listening" in line))["port"]
        headers = {
            "Host": "desk.example", "X-Forwarded-User": "anna", "X-Fakesweep-Proxy-Secret": SECRET,
            "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https",
        }  # fmt: skip
        answer = httpx2.get(f"http://127.0.0.1:{port}/login", headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "Secure" in answer.headers["set-cookie"].title()
        assert "server" not in answer.headers
    assert SECRET not in log.read_text()


GOOD = '[[reason]]\ncode = "hands"\ntext = "Six fingers"\nstatements = ["fake"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "[[reason", "reasons.toml cannot be read:"),
        (GOOD + "code = = 1", "(at line 5, column 8)"),
        (GOOD + GOOD, "reasons.toml, line 5: the code hands comes twice"),
        (GOOD + GOOD.replace("hands", "feet").replace("fake", "fine"), "reasons.toml, line 5: statements.0:"),
        (GOOD.replace('text = "Six fingers"\n', ""), "reasons.toml, line 1: text: is missing"),
        (GOOD.replace("Six fingers", ""), "reasons.toml, line 1: text:"),
        ("", "reasons.toml, line 1: must hold [[reason]] tables"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_reasons_is_refused_at_the_start(
    environment: dict[str, str], tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "reasons.toml"
    path.write_text(text)
    done = fakesweep("web", environment=environment | {"FAKESWEEP_WEB_REASONS": str(path)})
    assert (done.returncode, done.stderr.count("\n"), said in done.stderr) == (2, 1, True), done.stderr
    assert "FAKESWEEP_WEB_REASONS" in done.stderr


def test_the_file_of_reasons_is_read_once(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "reasons.toml"
    path.write_text(GOOD)
    with running(environment | {"FAKESWEEP_WEB_REASONS": str(path)}, tmp_path / "log") as (_, address):
        path.unlink()
        assert httpx2.get(f"{address}/login").status_code == 200


def test_an_unavailable_broker_is_logged_and_stops_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(environment | {"BROKER_URL": "redis://:hidden@127.0.0.1:9/0"}, log) as (process, address):
        assert httpx2.get(f"{address}/login").status_code == 200
        wait_for(lambda: '"broker_not_used"' in log.read_text(), 20, process, log)
    assert "hidden" not in log.read_text()


def test_forwarded_headers_of_strangers_are_ignored(environment: dict[str, str], tmp_path: Path) -> None:
    """Only a proxy that the settings name may say from where, and over which scheme, a request came."""
    behind = {
        "FAKESWEEP_WEB_LOGIN": "proxy", "FAKESWEEP_WEB_URL": "http://127.0.0.1:8400",
        "FAKESWEEP_WEB_PROXY_SECRET": SECRET,
    }  # fmt: skip
    for trusted, scheme in (("127.0.0.1", "https"), ("10.0.0.0/8", "http"), ("", "http")):
        given = environment | behind | {"FAKESWEEP_WEB_TRUSTED_PROXIES": trusted}
        log = tmp_path / f"log-{scheme}-{len(trusted)}"
        with running(given, log):
            port = json.loads(next(line for line in log.read_text().splitlines() if "web_listening" in line))["port"]
            headers = {"Host": "127.0.0.1:8400", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https"}
            answer = httpx2.get(f"http://127.0.0.1:{port}/static", headers=headers)
            assert answer.headers["location"].partition(":")[0] == scheme, trusted


def test_a_lock_in_the_database_stops_nothing_else(environment: dict[str, str], tmp_path: Path) -> None:
    """A request that needs the table soon gets 'try again'. Static files and health still answer."""
    assert fakesweep("reviewer", "add", "heron", environment=environment).returncode == 0
    url = environment["DATABASE_URL"].replace("+psycopg", "")
    with (
        running(environment, tmp_path / "log") as (_, address), httpx2.Client(base_url=address, timeout=30) as client,
        psycopg.connect(url) as connection, ThreadPoolExecutor(45) as threads,
    ):  # fmt: skip
        token = csrf_of(client.get("/login").text)
        client.post("/login", data={"name": "heron", "csrf": token})
        cookie = {"Cookie": f"fakesweep={client.cookies['fakesweep']}"}
        connection.execute("LOCK TABLE contents")
        waiting = [threads.submit(httpx2.get, f"{address}/queue", headers=cookie, timeout=60) for _ in range(45)]
        assert httpx2.get(f"{address}/static/desk.css", timeout=30).status_code == 200
        assert not all(one.done() for one in waiting)
        assert httpx2.get(f"{address}/v1/health", timeout=30).status_code in {200, 503}
        answers = [one.result() for one in waiting]
        assert {one.status_code for one in answers} == {503}
        assert "Try again in a moment" in answers[0].text
        connection.rollback()
        assert client.get("/queue").status_code == 200


def test_an_unavailable_database_is_reported_without_its_address(environment: dict[str, str], tmp_path: Path) -> None:
    with running(environment, tmp_path / "log") as (_, address):
        url = environment["DATABASE_URL"].replace("+psycopg", "")
        name = url.rpartition("/")[2].partition("?")[0]
        with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            kill = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(kill, (name,))
        answer = httpx2.get(f"{address}/login", timeout=30)
    assert (answer.status_code, "Try again in a moment" in answer.text) == (503, True)
    assert not any(word in answer.text for word in (name, "connection", "server at"))
    assert name in (tmp_path / "log").read_text(), "the log names the cause"
