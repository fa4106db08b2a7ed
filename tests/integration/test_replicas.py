"""One worker process for each GPU: the parent with scripted children, and the command line with real workers."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from deploy.demo.draw import draw_record
from tests.conftest import DEMO_DETECTOR
from tests.processes import ROOT, fakesweep, results_of, wait_for
from worker.errors import ConfigurationError
from worker.gpus import choose_gpus
from worker.replicas import Backoff, Replicas

PARENT = """
import asyncio, logging, sys
from worker.errors import ConfigurationError
from worker.replicas import Backoff, Replicas
first_s = float(sys.argv.pop(1))
try:
    parent = Replicas({0: "4", 1: "GPU-ab"}, 9000, command=sys.argv[1:], backoff=lambda: Backoff(first_s))
    sys.exit(asyncio.run(parent.run()))
except ConfigurationError as error:
    sys.exit(f"said: {error}")
"""

CHILD = """
import json, logging, os, signal, subprocess, sys, time
from pathlib import Path
from worker import telemetry
from worker.errors import ConfigurationError
from worker.replicas import Replica
from worker.settings import Settings

def note(name, content=""):
    with (folder / name).open("a") as file:
        file.write(str(content) + "\\n")

def told(*_):
    note(f"{replica.number}-told")
    if "stubborn" not in deed or len((folder / f"{replica.number}-told").read_text()) > 1:
        sys.exit(1 if deed == "broken" else 0)

folder, plan = Path(sys.argv[1]), json.loads(sys.argv[2])
replica = Replica.join()
starts = folder / f"{replica.number}-starts"
before = len(starts.read_text().splitlines()) if starts.exists() else 0
deed, *_ = plan.get(str(replica.number), [])[before:] or ["run"]
signal.signal(signal.SIGTERM, told)
telemetry.configure_logging(Settings())
telemetry.name_replica(replica.number)
logging.getLogger("vllm").warning("a foreign line")
telemetry.structlog.get_logger("own").warning("an own line")
own = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "FAKESWEEP_HEALTH_PORT")}
note(starts.name, json.dumps({"pid": os.getpid(), "node": replica.node_name, **own}))
if deed == "wrong":
    replica.report(ConfigurationError("FAKESWEEP_MODEL: is wrong"))
    sys.exit(2)
if isinstance(deed, int):
    sys.exit(deed)
if "leaves a process" in deed:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note("left", left.pid)
if "is killed" in deed:
    os.kill(os.getpid(), signal.SIGKILL)
while True:
    time.sleep(60)
"""


class Parent:
    """The parent process, its log, and what its children noted."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, folder: Path) -> None:
        self.process, self.log, self.folder = process, log, folder

    def starts(self, gpu: int) -> list[dict[str, Any]]:
        path = self.folder / f"{gpu}-starts"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def told(self, gpu: int) -> int:
        path = self.folder / f"{gpu}-told"
        return len(path.read_text()) if path.exists() else 0

    def wait_for(self, condition: Callable[[], bool]) -> None:
        wait_for(condition, 60, self.process, self.log)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Any]:
    """Starts a parent. At each start, a child does what the plan says for its GPU, or else runs."""

    @contextmanager
    def started(first_wait_s: float = 0.01, **plan: list[str | int]) -> Iterator[Parent]:
        (tmp_path / "child.py").write_text(CHILD)
        log = tmp_path / "log"
        child = [sys.executable, str(tmp_path / "child.py"), str(tmp_path), json.dumps(plan)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", PARENT, str(first_wait_s), *child],
                cwd=ROOT,
                stdout=file,
                stderr=file,
                env=environment,
            )
        parent = Parent(process, log, tmp_path)
        try:
            yield parent
        finally:
            process.kill()  # the children end with it
            process.wait()
            pids = [entry["pid"] for gpu in (0, 1) for entry in parent.starts(gpu)]
            wait_for(lambda: not any(alive(pid) for pid in pids), 20)

    return started


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_each_child_has_its_gpu_port_and_name_and_is_asked_to_stop(start: Any) -> None:
    with start() as parent:
        parent.wait_for(lambda: bool(parent.starts(0) and parent.starts(1)))
        assert parent.end() == 0
    (first,), (second,) = parent.starts(0), parent.starts(1)
    assert (first["CUDA_VISIBLE_DEVICES"], first["FAKESWEEP_HEALTH_PORT"]) == ("4", "9000")
    assert (second["CUDA_VISIBLE_DEVICES"], second["FAKESWEEP_HEALTH_PORT"]) == ("GPU-ab", "9001")
    assert first["node"].startswith("gpu0@")
    assert second["node"].startswith("gpu1@")
    assert (parent.told(0), parent.told(1)) == (1, 1)
    lines = [json.loads(line) for line in parent.log.read_text().splitlines() if line.startswith("{")]
    for event in ("a foreign line", "an own line"):
        assert sorted(line["replica"] for line in lines if line["event"] == event) == [0, 1]


def test_a_terminal_that_closes_stops_all(start: Any) -> None:
    with start() as parent:
        parent.wait_for(lambda: bool(parent.starts(0) and parent.starts(1)))
        assert parent.end(signal.SIGHUP) == 0
    assert (parent.told(0), parent.told(1)) == (1, 1)


def test_children_that_die_are_started_again_and_leave_no_process(start: Any) -> None:
    # After a first start, exit code 2 means that something is away for a while.
    plan = [70, "leaves a process and is killed", 1, 2, "run"]
    with start(**{"0": plan}) as parent:
        parent.wait_for(lambda: len(parent.starts(0)) == len(plan) and bool(parent.starts(1)))
        left = int((parent.folder / "left").read_text())
        assert not alive(left)
        assert parent.end() == 0
    assert len(parent.starts(1)) == 1
    said = re.findall(r"code=(-?\d+)", re.sub(r"\x1b\[[0-9;]*m", "", parent.log.read_text()))
    assert said == ["70", "-9", "1", "2"]


def test_a_child_that_somebody_stops_is_not_started_again(start: Any) -> None:
    with start() as parent:
        parent.wait_for(lambda: bool(parent.starts(0) and parent.starts(1)))
        os.kill(parent.starts(0)[0]["pid"], signal.SIGTERM)
        parent.wait_for(lambda: not alive(parent.starts(0)[0]["pid"]))
        time.sleep(0.3)
        assert parent.log.read_text().count("replica_started") == 2
        assert parent.end(signal.SIGTERM) == 0


def test_a_wrong_configuration_ends_all_children_and_is_said_once(start: Any) -> None:
    with start(**{"0": ["run"], "1": ["wrong"]}) as parent:
        assert parent.process.wait(30) == 1  # the exit code of this test's parent for a ConfigurationError
    said = [line for line in parent.log.read_text().splitlines() if "is wrong" in line]
    assert said == ["said: FAKESWEEP_MODEL: is wrong"]
    assert len(parent.starts(1)) == 1


def test_a_second_signal_is_passed_on_and_a_failed_drain_is_exit_code_1(start: Any) -> None:
    with start(**{"0": ["stubborn"], "1": ["broken"]}) as parent:
        parent.wait_for(lambda: bool(parent.starts(0) and parent.starts(1)))
        parent.process.send_signal(signal.SIGTERM)
        parent.wait_for(lambda: parent.told(0) == 1 and not alive(parent.starts(1)[0]["pid"]))
        assert parent.process.poll() is None
        assert parent.end() == 1
    assert parent.told(0) == 2


def test_a_signal_ends_the_wait_before_a_start(start: Any) -> None:
    with start(first_wait_s=50, **{"0": [70]}) as parent:
        parent.wait_for(lambda: "replica_ended" in parent.log.read_text() and bool(parent.starts(1)))
        assert parent.end() == 0
    assert len(parent.starts(0)) == 1


def test_children_do_not_outlive_a_killed_parent(start: Any) -> None:
    with start() as parent:
        parent.wait_for(lambda: bool(parent.starts(0) and parent.starts(1)))
        parent.process.kill()
        wait_for(lambda: not any(alive(parent.starts(gpu)[0]["pid"]) for gpu in (0, 1)), 10)
    assert (parent.told(0), parent.told(1)) == (1, 1)  # they were asked to stop


def test_a_child_that_stops_slowly_is_killed_after_its_parent_with_what_it_started(start: Any) -> None:
    with start(**{"0": ["stubborn, leaves a process"]}) as parent:
        parent.wait_for(lambda: (parent.folder / "left").exists() and bool(parent.starts(1)))
        parent.process.kill()
        pids = [parent.starts(0)[0]["pid"], int((parent.folder / "left").read_text())]
        wait_for(lambda: not any(alive(pid) for pid in pids), 10)
    assert parent.told(0) == 1


def test_the_wait_grows_to_its_limit_and_starts_anew_after_a_long_run() -> None:
    backoff = Backoff()
    assert [backoff.after(5) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [backoff.after(ran_s) for ran_s in (599, 600, 0)] == [60, 1, 2]


def test_the_length_of_a_run_is_taken_from_the_clock() -> None:
    times = iter([0, 5, 100, 800, 900, 905, 1000])
    child = [sys.executable, "-c", "import sys; sys.exit(70)"]
    parent = Replicas({0: "0"}, command=child, backoff=lambda: Backoff(first_s=0.01), clock=lambda: float(next(times)))
    with capture_logs() as logs, pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(parent.run())
    assert [entry["again_in_s"] for entry in logs if entry["event"] == "replica_ended"] == [0.01, 0.01, 0.02]


@pytest.mark.parametrize(
    ("wanted", "visible", "chosen"),
    [
        ("all", None, {0: "0", 1: "1", 2: "2"}),
        ("all", "5,3", {0: "5", 1: "3"}),
        ("all", "MIG-aa", {0: "MIG-aa"}),
        ("0,1", None, {0: "0", 1: "1"}),
        ("1, 0", "GPU-a, GPU-b", {1: "GPU-b", 0: "GPU-a"}),
        ("7", None, {7: "7"}),
    ],
)
def test_gpus_are_chosen(wanted: str, visible: str | None, chosen: dict[int, str]) -> None:
    assert choose_gpus(wanted, visible, lambda: 3) == chosen


@pytest.mark.parametrize(
    ("wanted", "visible", "said"),
    [
        ("all", None, "there is no GPU (the driver finds none)"),
        ("all", "", "CUDA_VISIBLE_DEVICES is empty"),
        ("0,2", "5,3", "no GPU 2 among CUDA_VISIBLE_DEVICES=5,3"),
        ("0,0", None, "each once"),
        ("0,00", None, "each once"),
        ("", None, "give all, or numbers"),
        ("-1", None, "give all, or numbers"),
    ],
)
def test_gpus_that_are_not_there(wanted: str, visible: str | None, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        choose_gpus(wanted, visible, lambda: 0)


def test_the_command_says_a_wrong_configuration_once() -> None:
    environment = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "FAKESWEEP_DETECTOR": str(DEMO_DETECTOR),
        "FAKESWEEP_HEALTH_PORT": "0",
    }
    done = fakesweep("worker", "--gpus", "0,1", environment=environment)
    assert done.returncode == 2
    (said,) = (line for line in done.stderr.splitlines() if "the database cannot be used" in line)
    assert said.startswith("fakesweep: DATABASE_URL")
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert sorted(line["replica"] for line in lines if line["event"] == "replica_started") == [0, 1]
    assert {line["replica"] for line in lines if line["event"] == "health_listening"} <= {0, 1}
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is an NVIDIA driver here")
def test_all_gpus_of_a_machine_without_any() -> None:
    done = fakesweep("worker", "--gpus", "all", environment={})
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "--gpus all" in done.stderr


def test_whole_workers_judge_and_drain(embedded_redis_url: str, database_url: str, tmp_path: Path) -> None:
    """The demo detector runs on transformers, which starts faster than vLLM."""
    (tmp_path / "images").mkdir()
    for index in range(18):
        draw_record(index, seed=5, folder=tmp_path)
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": embedded_redis_url,
        "FAKESWEEP_DETECTOR": str(DEMO_DETECTOR),
        "FAKESWEEP_ENGINE": "transformers",
        "FAKESWEEP_THREADS": "1",
    }
    log = tmp_path / "log"
    command = [sys.executable, "-m", "producers", "worker", "--gpus", "0,1"]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env={**os.environ, **environment})
    try:
        wait_for(lambda: log.read_text().count('"worker_ready"') == 2, 120, process, log)
        done = fakesweep("scan", str(tmp_path / "images"), "--watch", "--explain", "none", environment=environment)
        assert done.returncode == 0, done.stderr
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert {row["outcome"] for row in results_of(done.stdout.strip(), environment)} <= {"judged", "reused"}
    text = log.read_text()
    assert "Loading weights" not in text, "a progress bar has no line end, and the next line of the log is spoilt"
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    for event in ("engine_starting", "worker_ready", "worker_stopped"):
        assert sorted(line["replica"] for line in lines if line["event"] == event) == [0, 1]
    for gpu in (0, 1):
        assert any(line["event"].startswith(f"gpu{gpu}@") and line["event"].endswith("ready.") for line in lines)
