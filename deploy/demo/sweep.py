"""One sweep with Fakesweep's own commands: migrate, a worker, a scan and its results, as an operator runs them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

from deploy.demo.processes import Process, running, signals_held, stop, tail

ROOT = Path(__file__).resolve().parents[2]
FAKESWEEP = [sys.executable, "-m", "producers"]
READY = b'"event": "worker_ready"'
WORKER_START_S, WORKER_STOP_S = 600, 40
FOREIGN = ("FAKESWEEP_", "AWS_", "VLLM_", "SENTRY_")
"""The user's variables that may mean another system. The demo does not see them."""


class SweepError(Exception):
    """A command failed or the worker ended. The text says which and why."""


class Files(NamedTuple):
    """The files that a scan leaves."""

    results: Path
    summary: Path
    report: Path


@dataclass
class Sweep:
    """Fakesweep on the given parts. Everything it writes goes into `home`."""

    home: Path
    detector: Path
    database_url: str
    broker_url: str
    s3_endpoint: str
    _worker: Process | None = field(default=None, init=False)

    @property
    def worker_log(self) -> Path:
        """The output of the worker and vLLM."""
        return self.home / "worker.log"

    def migrate(self) -> None:
        """Creates the tables."""
        self.run("migrate")

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Runs a worker, and yields when it is ready. Raises StartError with its log if it ends before that."""
        command, log = [*FAKESWEEP, "worker"], self.worker_log
        with running(
            "the worker", command, log, lambda _: READY in log.read_bytes(), env=self.environment(), cwd=ROOT,
            start_limit_s=WORKER_START_S, stop_limit_s=WORKER_STOP_S,
        ) as self._worker:  # fmt: skip
            yield

    def scan(self, source: str) -> Files:
        """Scans the source to its end, and writes results, summary and report."""
        scan = str(json.loads(self.run("scan", source, "--name", "demo", "--watch", "--json"))["scan"])
        files = Files(*(self.home / name for name in ("results.jsonl", "summary.json", "report.html")))
        self.run("results", scan, "--output", str(files.results))
        files.summary.write_bytes(self.run("status", scan, "--json"))
        self.run("report", scan, "--output", str(files.report))
        return files

    def run(self, *arguments: str) -> bytes:
        """Runs a command of `fakesweep`, and returns its stdout. Its stderr is ours.

        Raises SweepError if the command fails or the worker ends.
        """
        process = None
        with TemporaryFile() as output:
            try:
                with signals_held():  # an interrupt inside Popen would lose the process
                    process = subprocess.Popen(
                        [*FAKESWEEP, *arguments], stdin=subprocess.DEVNULL, stdout=output, env=self.environment(),
                        cwd=ROOT, start_new_session=True,
                    )  # fmt: skip
                self._wait(process)
            finally:
                if process is not None:
                    stop(process, signal.SIGTERM)
            if process.returncode:
                raise SweepError(f"fakesweep {arguments[0]} ended with code {process.returncode}")
            output.seek(0)
            return output.read()

    def _wait(self, process: Process) -> None:
        """Waits until the command ends. Without the worker, a scan would wait forever, so its end is an error."""
        while process.poll() is None:
            self.check()
            time.sleep(0.05)

    def check(self) -> None:
        """Raises SweepError when the worker has ended."""
        if self._worker is not None and self._worker.poll() is not None:
            raise SweepError(f"the worker ended with code {self._worker.returncode}:\n{tail(self.worker_log)}")

    def environment(self) -> dict[str, str]:
        """Returns the environment with the demo's settings in place of the user's."""
        return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.broker_url,
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint,
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "FAKESWEEP_DETECTOR": str(self.detector),
            "FAKESWEEP_THREADS": "4",
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
        }
