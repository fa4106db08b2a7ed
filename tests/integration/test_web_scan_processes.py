"""The processes that publish the desk's scans: started once, started again when they die, and never left behind."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psutil

from producers.web.scans import ScanProcesses
from tests.processes import wait_for

SCAN = uuid4()
"""This scan is in no database, because these processes publish nothing."""
DIES, ENDS, STAYS = "raise SystemExit(1)", "", "import time; time.sleep(60)"


class Started:
    """Real processes that end as each script says, one after the other. `now` is the time, as the test sets it."""

    def __init__(self, *scripts: str) -> None:
        self.scripts = list(scripts)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.now = datetime.now(UTC)

    def spawn(self, _scan_id: UUID) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", self.scripts.pop(0)])
        self.processes.append(process)
        return process

    def count(self) -> int:
        return len(self.processes)


@contextmanager
def looking_after(started: Started) -> Iterator[ScanProcesses]:
    processes = ScanProcesses(started.spawn, lambda: started.now)
    try:
        yield processes
    finally:
        processes.close()


def test_a_scan_has_one_process_which_leaves_no_zombie() -> None:
    started = Started(ENDS)
    with looking_after(started) as processes:
        processes.start(SCAN)
        wait_for(lambda: not processes.running(SCAN), 20)
        assert started.count() == 1
        assert not psutil.pid_exists(started.processes[0].pid), "it must not stay as a zombie"


def test_a_process_that_dies_is_started_again_at_once_and_then_later() -> None:
    started = Started(DIES, DIES, ENDS)
    with looking_after(started) as processes:
        processes.start(SCAN)
        wait_for(lambda: processes.deaths(SCAN) == 2, 20)
        assert started.count() == 2
        started.now += timedelta(seconds=31)
        wait_for(lambda: not processes.running(SCAN), 20)
        assert started.count() == 3


def test_a_start_while_the_process_still_runs_is_not_forgotten(tmp_path: Path) -> None:
    told = tmp_path / "told"
    started = Started(f"import os, time\nwhile not os.path.exists({str(told)!r}): time.sleep(0.05)", ENDS)
    with looking_after(started) as processes:
        processes.start(SCAN)
        processes.start(SCAN)
        assert started.count() == 1
        told.touch()
        wait_for(lambda: not processes.running(SCAN), 20)
        assert (started.count(), processes.deaths(SCAN)) == (2, 0)


def test_all_processes_end_with_the_desk() -> None:
    started = Started(STAYS, STAYS)
    with looking_after(started) as processes:
        processes.start(SCAN)
        processes.start(uuid4())
    assert [process.poll() for process in started.processes] == [-15, -15]
    processes.start(SCAN)
    assert started.count() == 2
