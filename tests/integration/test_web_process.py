"""`fakesweep web` as a process: how it starts, what it says, how it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.processes import ROOT, fakesweep, wait_for

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


def test_it_answers_until_sigterm(environment: dict[str, str], tmp_path: Path) -> None:
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
    ],
)
def test_a_wrong_setting_is_told_in_one_line(environment: dict[str, str], changes: dict[str, str], said: str) -> None:
    done = fakesweep("web", environment=environment | changes)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr
