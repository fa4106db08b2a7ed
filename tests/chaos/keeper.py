"""Keeps processes running, as a supervisor does, and lets faults strike them."""

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.processes import ROOT

PAUSE_S = 0.2


class Kept:
    """A process that is started again whenever it ends; with `until_done`, until it ends with 0."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, until_done: bool = False
    ) -> None:
        self._command, self._environment, self._log = command, environment, log
        self._until_done = until_done
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self.exits: Counter[int] = Counter()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    @property
    def done(self) -> bool:
        """Whether it will not be started again."""
        return not self._thread.is_alive()

    def send(self, number: signal.Signals) -> bool:
        """Whether there was a process to send it to."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        process.send_signal(number)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Whether it is done within the time."""
        self._thread.join(timeout_s)
        return self.done

    def end(self, grace_s: float = 15) -> None:
        """Ends it for good: SIGTERM, then SIGKILL."""
        self._ended.set()
        self.send(signal.SIGTERM)
        if not self.wait(grace_s):
            self.send(signal.SIGKILL)
            self.wait(10)

    def _keep(self) -> None:
        while not self._ended.is_set():
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    env={**os.environ, **self._environment},
                )  # fmt: skip
            code = self._process.wait()
            self.exits[code] += 1
            if self._until_done and code == 0:
                return
            self._ended.wait(PAUSE_S)


def wait_until(condition: Callable[[], bool], timeout_s: float, *, every_s: float = 0.1) -> bool:
    """Whether the condition holds within the time. An error of it counts as no."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with suppress(Exception):
            if condition():
                return True
        time.sleep(every_s)
    return False
