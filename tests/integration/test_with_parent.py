"""A process that ends with its parent: however the parent ends, and even while the process runs native code."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.processes import ROOT, living, wait_for
from worker.detector.with_parent import end_with_parent

SCRIPT = """
import ctypes, multiprocessing, os, subprocess, sys, threading, time
from pathlib import Path
from worker.detector.with_parent import end_with_parent

def say(name):
    Path(sys.argv[1], name).touch()

def busy(first):
    first()
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    say(f"{os.getpid()} {started.pid}")
    ctypes.PyDLL(None).sleep(600)  # holds Python's lock

def late(parent):
    say(f"{os.getpid()} {os.getpid()}")
    while os.getppid() == parent:
        time.sleep(0.05)
    end_with_parent()
    say("survived")

if __name__ == "__main__":
    deed, argument = {
        "busy": (busy, end_with_parent), "careless": (busy, int), "late": (late, os.getpid())
    }[sys.argv[3]]
    child = multiprocessing.get_context(sys.argv[2]).Process(target=deed, args=[argument])
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    say("thread ended")
    time.sleep(600)
"""


@contextmanager
def of_killed_parent(folder: Path, method: str, deed: str) -> Iterator[list[psutil.Process]]:
    """The child of a parent that was killed a moment ago, and what this child started."""
    script, notes = folder / "script.py", folder / "notes"
    notes.mkdir()
    script.write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(notes), method, deed], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    family: list[psutil.Process] = []
    try:
        wait_for(lambda: len(list(notes.iterdir())) == 2, 30, parent)
        (pids,) = (note.name.split() for note in notes.iterdir() if note.name[0].isdecimal())
        family += [psutil.Process(int(pid)) for pid in pids]
        assert len(living(family)) == len(family), "it outlives the thread that started it"
        parent.kill()
        parent.wait()
        yield family
    finally:
        parent.kill()
        for process in living(family):
            process.kill()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_the_child_ends_with_all_that_it_started_even_in_native_code(tmp_path: Path, method: str) -> None:
    with of_killed_parent(tmp_path, method, "busy") as family:
        wait_for(lambda: not living(family), 10)


def test_without_the_call_the_child_stays(tmp_path: Path) -> None:
    with of_killed_parent(tmp_path, "spawn", "careless") as family, pytest.raises(AssertionError):
        wait_for(lambda: not living(family), 2)


def test_the_child_ends_at_once_if_the_parent_has_ended_before(tmp_path: Path) -> None:
    with of_killed_parent(tmp_path, "spawn", "late") as family:
        wait_for(lambda: not living(family), 10)
    assert not (tmp_path / "notes" / "survived").exists()


def test_only_processes_that_multiprocessing_started_are_accepted() -> None:
    with pytest.raises(RuntimeError, match="not started by multiprocessing"):
        end_with_parent()
