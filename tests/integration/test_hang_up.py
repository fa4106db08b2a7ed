"""SIGHUP, which a worker gets when its terminal closes, stops it as SIGTERM does. Celery would start it anew."""

import signal
import time
from pathlib import Path

import pytest

from tests.processes import running_worker

WORKER = ["tests.scripted_worker", "0", "-1"]


@pytest.fixture
def environment(clean_redis_url: str, database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "BROKER_URL": clean_redis_url, "FAKESWEEP_THREADS": "1"}


def test_it_stops_the_worker(environment: dict[str, str], tmp_path: Path) -> None:
    with running_worker(WORKER, environment, tmp_path / "log") as worker:
        assert worker.stop(signal.SIGHUP) == 0
    said = worker.log.read_text()
    assert said.count('"worker_ready"') == said.count('"worker_stopping"') == said.count('"worker_stopped"') == 1


def test_it_is_ignored_below_nohup(environment: dict[str, str], tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which the worker takes over
    try:
        with running_worker(WORKER, environment, tmp_path / "log") as worker:
            worker.process.send_signal(signal.SIGHUP)
            time.sleep(2)
            assert worker.process.poll() is None
            assert worker.stop() == 0
    finally:
        signal.signal(signal.SIGHUP, before)
