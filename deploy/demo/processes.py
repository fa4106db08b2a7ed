"""Runs child processes that are ready when they are handed out, and that leave nothing behind when they stop."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

START_LIMIT_S = 90
STOP_LIMIT_S = 20

Process = subprocess.Popen[bytes]
Command = Sequence[str | Path]


class StartError(Exception):
    """A process ended, or did not answer in time. The text ends with the last lines of its log."""


@contextmanager
def running(
    what: str,
    command: Command,
    log: Path,
    answers: Callable[[Process], bool],
    *,
    end: signal.Signals = signal.SIGTERM,
    start_limit_s: float = START_LIMIT_S,
    stop_limit_s: float = STOP_LIMIT_S,
    **options: Any,
) -> Iterator[Process]:
    """Runs a process, and yields it when `answers` is true. Ends it with the signal `end` after the body.

    Its output is appended to `log`. `options` are those of subprocess.Popen. It leads a session of its own, so that
    Ctrl-C in the terminal reaches only the caller. Raises StartError.
    """
    process = None
    until = time.monotonic() + start_limit_s
    try:
        with log.open("ab") as file, signals_held():  # an interrupt inside Popen would lose the process
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, **options
            )
        while not answers(process):
            _check(what, process, log, until)
            time.sleep(0.05)
        yield process
    finally:
        if process is not None:
            stop(process, end, stop_limit_s)


def _check(what: str, process: Process, log: Path, until: float) -> None:
    if process.poll() is not None:
        raise StartError(f"{what} ended with code {process.returncode} while it started:\n{tail(log)}")
    if time.monotonic() > until:
        raise StartError(f"{what} took too long to start:\n{tail(log)}")


def stop(process: Process, number: signal.Signals, limit_s: float = STOP_LIMIT_S) -> None:
    """Sends the signal and waits, then kills the rest of the session, immediately if the waiting is interrupted."""
    try:
        process.send_signal(number)
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with signals_held():
            if process.poll() is None:
                process.kill()
                process.wait()
            for _ in range(5):  # a killed process may have just started another one
                left = session_members(process.pid)
                for member in left:
                    with suppress(psutil.NoSuchProcess):
                        member.kill()
                psutil.wait_procs(left, timeout=1)


def session_members(session: int) -> list[psutil.Process]:
    """Returns the running processes of a session, including those whose parent has ended."""
    return [process for process in psutil.process_iter() if _session(process) == session and process.is_running()]


def _session(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (psutil.Error, OSError):
        return None


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Lets SIGTERM, and SIGHUP of a closed terminal, raise KeyboardInterrupt in the body, unless they are handled."""
    numbers: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        numbers += [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def signals_held() -> Iterator[None]:
    """Delays SIGINT, SIGTERM and SIGHUP that arrive in the body until its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in caught[:1]:
            signal.raise_signal(late)


def tail(log: Path, lines: int = 20) -> str:
    """Returns the last lines of a log, whatever it contains."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:])
