"""Keeps processes running, as a supervisor does, and sends them signals."""

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
    """A process that is started again whenever it ends. With `until_done`, only until it ends with code 0."""

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
        """The id of the process that runs now, or None."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    @property
    def done(self) -> bool:
        """Whether the process has ended and will not be started again."""
        return not self._thread.is_alive()

    def send(self, number: signal.Signals) -> bool:
        """Sends the signal. Returns whether there was a process to send it to."""
        process = self._process
        if process is None or process.poll() is not None:
            return False
        process.send_signal(number)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Waits until it is done, for at most `timeout_s`. Returns whether it is."""
        self._thread.join(timeout_s)
        return self.done

    def end(self, grace_s: float = 15) -> None:
        """Ends the process and does not start it again: SIGTERM, then SIGKILL after `grace_s`."""
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
    """Waits until the condition holds, for at most `timeout_s`. Returns whether it holds.

    If the condition raises an error, it does not hold.
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with suppress(Exception):
            if condition():
                return True
        time.sleep(every_s)
    return False
