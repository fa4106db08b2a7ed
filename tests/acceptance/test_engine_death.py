"""vLLM's engine core dies or hangs: the worker ends with 70, nothing is left running and no message is lost."""

import http.client
import json
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from deploy.demo.draw import draw_record
from tests.acceptance.test_service import environment_for
from tests.processes import RunningWorker, fakesweep, results_of, running_worker, wait_for

STALL_S = 10


@pytest.fixture
def environment(embedded_redis_url: str, database_url: str) -> dict[str, str]:
    with redis.Redis.from_url(embedded_redis_url) as client:
        client.flushdb()  # only these tests use the embedded server
    own = {"FAKESWEEP_ENGINE_STALL_S": str(STALL_S), "FAKESWEEP_HEALTH_PORT": "0"}
    return environment_for(database_url, embedded_redis_url) | own


def engine_core(worker: RunningWorker) -> psutil.Process:
    """vLLM's process that holds the model. It gives itself the name that is searched for here."""
    children = psutil.Process(worker.process.pid).children(recursive=True)
    (core,) = (child for child in children if "EngineCore" in " ".join([child.name(), *child.cmdline()]))
    return core


def events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(errors="replace").splitlines() if line.startswith("{")]


def get(port: int, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


@pytest.mark.timeout(400)
def test_a_core_that_is_killed_while_idle_ends_the_worker(environment: dict[str, str], tmp_path: Path) -> None:
    with running_worker(["producers", "worker"], environment, tmp_path / "worker.log") as worker:
        said = events(worker.log)
        names = [line["event"] for line in said]
        assert names.index("health_listening") < names.index("engine_starting")
        port = next(line["port"] for line in said if line["event"] == "health_listening")
        assert get(port, "/health") == (200, '{"status": "ready"}')
        assert "\nvllm:num_requests_running{" in get(port, "/metrics")[1]
        engine_core(worker).kill()
        assert worker.process.wait(15) == 70
    (death,) = (line for line in events(worker.log) if line["event"] == "engine_dead")
    assert "engine core" in death["reason"]


@pytest.mark.timeout(500)
def test_a_core_that_hangs_ends_the_worker_and_the_next_one_judges(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    draw_record(0, seed=6, folder=tmp_path)
    with running_worker(["producers", "worker"], environment, tmp_path / "worker.log") as worker:
        processes = psutil.Process(worker.process.pid).children(recursive=True)
        engine_core(worker).send_signal(signal.SIGSTOP)
        (image,) = (tmp_path / "images").iterdir()
        scan = fakesweep("submit", image.as_uri(), environment=environment).stdout.strip()
        started = time.monotonic()
        assert worker.process.wait(STALL_S + 20) == 70
        assert time.monotonic() - started > STALL_S / 2
    (death,) = (line for line in events(worker.log) if line["event"] == "engine_dead")
    assert "FAKESWEEP_ENGINE_STALL_S" in death["reason"]
    assert psutil.wait_procs(processes, timeout=5)[1] == []
    with redis.Redis.from_url(environment["BROKER_URL"]) as client:
        assert client.hlen("unacked") == 1
        (tag,) = client.zrange("unacked_index", 0, -1)
        client.zadd("unacked_index", {tag: 0})  # as if the hour had passed after which Redis delivers it again
    with running_worker(["tests.scripted_worker", "0", "-1"], environment, tmp_path / "next.log") as following:
        wait_for(lambda: bool(results_of(scan, environment)), 60, following.process, following.log)
    assert [row["outcome"] for row in results_of(scan, environment)] == ["judged"]
