"""Runs workers and commands as processes, as an operator does."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.command_forks import can_fork, run_fork
from tests.two_processes import PROCESS

ROOT = Path(__file__).parents[1]
READY = '"event": "worker_ready"'
_PORTS = itertools.count()


def free_port() -> int:
    """Returns a port for this test process, on which nobody listens now.

    The system chooses the ports of outgoing connections above 32767, so a port of that range could be taken meanwhile.
    """
    for number in _PORTS:
        port = 20_000 + PROCESS * 5_000 + (os.getpid() * 7 + number) % 5_000
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("unreachable")


class RunningWorker:
    """A worker process and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 60) -> int:
        """Sends the signal and waits. Returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


@contextmanager
def running_worker(
    module: list[str], environment: dict[str, str], log: Path, ready_s: float = 180, folder: Path = ROOT
) -> Iterator[RunningWorker]:
    """Runs a worker, and waits until it says that it is ready. Ends it at the end."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *module], cwd=folder, stdout=file, stderr=file, start_new_session=True,
            env={**os.environ, **environment},
        )  # fmt: skip
    try:
        wait_for(lambda: READY in log.read_text(errors="replace"), ready_s, process, log)
        yield RunningWorker(process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running_process(
    module: list[str], environment: dict[str, str], log: Path, folder: Path = ROOT
) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs a module as a process. Kills it at the end."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *module], cwd=folder, stdout=file, stderr=file, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Returns the processes that have not ended. A zombie has ended: it holds no memory and no GPU."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_for(
    condition: Callable[[], bool],
    timeout_s: float,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> None:
    """Waits until the condition holds. Raises AssertionError after `timeout_s`, or when the process ends."""
    until = time.monotonic() + timeout_s
    while not condition():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > until:
            text = log.read_text(errors="replace")[-3000:] if log else ""
            raise AssertionError(f"{'the process ended' if ended else f'not within {timeout_s} s'}\n{text}")
        time.sleep(0.1)


def fakesweep(
    *arguments: str, environment: dict[str, str], timeout_s: float = 120, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs a command of `fakesweep`, in a fork of a process that has loaded libraries if this makes no difference."""
    whole = {**os.environ, **environment}
    if can_fork(whole):
        return run_fork(arguments, whole, folder, timeout_s)
    return subprocess.run(
        [sys.executable, "-m", "producers", *arguments], cwd=folder, capture_output=True, text=True, check=False,
        timeout=timeout_s, env=whole, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def results_of(scan: str, environment: dict[str, str], folder: Path = ROOT) -> list[dict[str, Any]]:
    """Returns the lines of `fakesweep results`."""
    done = fakesweep("results", scan, environment=environment, folder=folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
