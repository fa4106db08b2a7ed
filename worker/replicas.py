"""Runs one worker process for each GPU of a machine: `fakesweep worker --gpus all`.

The parent starts the children, passes signals on, and restarts a child that dies. Parent and child hold the two ends of
a socket. The parent's end closes however the parent ends, also by SIGKILL. Then the child stops as after SIGTERM, and
is killed if that takes long. (Linux's PR_SET_PDEATHSIG would need ctypes, and depends on the parent's thread instead of
its process.) If its configuration is wrong, a child says so over the same socket. The parent then prints this once.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import structlog

from worker import telemetry
from worker.errors import ConfigurationError
from worker.gpus import choose_gpus, count_gpus
from worker.settings import Settings

log = structlog.get_logger(__name__)

OK, FAILED, CONFIGURATION = 0, 1, 2
ORPHAN_S = 5
"""How long a worker may finish its messages after its parent was killed. Then the next worker may need its GPU."""
_NUMBER, _SOCKET = "FAKESWEEP_REPLICA", "FAKESWEEP_PARENT_SOCKET"


def main(gpus: str) -> int:
    """Runs a worker for each of these GPUs until SIGTERM. Returns the exit code. Raises ConfigurationError."""
    settings = Settings.from_environment()
    telemetry.configure_logging(settings)
    telemetry.init_sentry(settings)
    telemetry.warn_of_unknown_variables(os.environ)
    chosen = choose_gpus(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"), count_gpus)
    return asyncio.run(Replicas(chosen, settings.health_port).run())


@dataclass
class Backoff:
    """The wait before the next start, in seconds. It doubles each time. After a long run, it is `first_s` again."""

    first_s: float = 1
    limit_s: float = 60
    long_run_s: float = 600
    _next_s: float = field(default=0, init=False)

    def after(self, ran_s: float) -> float:
        """Returns the wait after a run of this length."""
        wait_s = self.first_s if ran_s >= self.long_run_s else max(self._next_s, self.first_s)
        self._next_s = min(2 * wait_s, self.limit_s)
        return wait_s


def hang_up() -> list[signal.Signals]:
    """Returns SIGHUP, which stops a process as SIGTERM does, or nothing if it is ignored, as below nohup."""
    return [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]


class Replicas:
    """The parent. `gpus` is what choose_gpus() returned; `command` starts a worker."""

    def __init__(
        self,
        gpus: Mapping[int, str],
        health_port: int | None = None,
        *,
        command: Sequence[str] = (sys.executable, "-m", "worker"),
        backoff: Callable[[], Backoff] = Backoff,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gpus, self._health_port, self._command = gpus, health_port, command
        self._backoff, self._clock = backoff, clock
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._wrong: str | None = None

    async def run(self) -> int:
        """Runs until every child has ended. Returns 0 if all finished their work, 1 otherwise.

        Raises ConfigurationError with the text of a child.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop, number)
        for number in hang_up():
            asyncio.get_running_loop().add_signal_handler(number, self._stop, signal.SIGTERM)
        drained = await asyncio.gather(*(self._keep(gpu) for gpu in self._gpus))
        if self._wrong is not None:
            raise ConfigurationError(self._wrong)
        return OK if all(drained) else FAILED

    def _stop(self, number: signal.Signals) -> None:
        self._stopping.set()
        for child in self._children.values():
            with suppress(ProcessLookupError):
                child.send_signal(number)

    async def _keep(self, gpu: int) -> bool:
        """Runs the worker of a GPU, again and again until the stop. Returns whether the last one finished its work.

        A wrong configuration stops all workers at the first start only. Later, the same exit code means a temporary
        fault: the database is away, or the previous worker has not freed its memory of the GPU yet.
        """
        backoff, first = self._backoff(), True
        while not self._stopping.is_set():
            started = self._clock()
            code, said = await self._start(gpu)
            if code == OK or self._stopping.is_set():
                return code in {OK, -signal.SIGTERM, -signal.SIGINT}  # negative: before its start, or after its end
            if code == CONFIGURATION and first:
                self._wrong = self._wrong or said or f"the worker of GPU {gpu} refused to start; see its log"
                self._stop(signal.SIGTERM)
                return False
            first, wait_s = False, backoff.after(self._clock() - started)
            log.error("replica_ended", replica=gpu, code=code, reason=said, again_in_s=wait_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)
        return True

    async def _start(self, gpu: int) -> tuple[int, str]:
        """Runs a worker once. Returns its exit code (negative: a signal) and what is wrong with its configuration."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                # In a group of its own: Ctrl-C reaches only the parent, and what a killed worker leaves can be killed.
                child = await asyncio.create_subprocess_exec(
                    *self._command, env=self._environment(gpu, theirs), pass_fds=[theirs.fileno()], process_group=0,
                    stdin=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
            self._children[gpu] = child
            log.info("replica_started", replica=gpu, pid=child.pid)
            if self._stopping.is_set():
                child.terminate()
            code = await child.wait()
            del self._children[gpu]
            if code != OK:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            ours.setblocking(False)  # processes that the child started may hold its end a little longer
            try:
                return code, ours.recv(65536).decode(errors="replace")
            except OSError:
                return code, ""

    def _environment(self, gpu: int, line: socket.socket) -> dict[str, str]:
        own = {"CUDA_VISIBLE_DEVICES": self._gpus[gpu], _NUMBER: str(gpu), _SOCKET: str(line.fileno())}
        if self._health_port:  # with 0, each worker takes any free port
            own["FAKESWEEP_HEALTH_PORT"] = str(self._health_port + gpu)
        return {**os.environ, **own}


@dataclass(frozen=True)
class Replica:
    """The child's side: the number of its GPU, and the socket to its parent."""

    number: int
    _line: socket.socket

    @classmethod
    def join(cls) -> Self | None:
        """Returns which replica this process is, or None if it runs alone. From now on, it ends with its parent."""
        if _SOCKET not in os.environ:
            return None
        line = socket.socket(fileno=int(os.environ.pop(_SOCKET)))
        line.set_inheritable(False)
        replica = cls(int(os.environ[_NUMBER]), line)
        threading.Thread(target=replica._follow, name="parent", daemon=True).start()
        return replica

    def _follow(self) -> None:
        with suppress(OSError):
            self._line.recv(1)  # the parent sends nothing: this returns when the parent has ended
        log.warning("parent_gone", killed_in_s=ORPHAN_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_S)
        os.killpg(os.getpid(), signal.SIGKILL)  # its messages go back to their queues

    @property
    def node_name(self) -> str:
        """Its name in Celery. Two nodes with the same name would receive each other's remote control commands."""
        return f"gpu{self.number}@{socket.gethostname()}"

    def report(self, error: ConfigurationError) -> None:
        """Tells the parent what is wrong with the configuration."""
        with suppress(OSError):
            self._line.sendall(str(error).encode())
