"""Runs and times `fakesweep scan` of a manifest as a process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kombu import Connection

from benchmarks.scratch import AMQP, etag_of, uri_of
from worker import broker
from worker.messages import MAX_IMAGES, SCAN_QUEUE

HERE = Path(__file__).parent.parent
"""The folder of the code that this file belongs to."""


@contextmanager
def empty_queue() -> Iterator[Connection]:
    """Gives a connection to the broker. Its scan queue is empty at the beginning and at the end."""
    with Connection(AMQP) as rabbit:
        broker.declare_queues(rabbit)
        rabbit.default_channel.queue_purge(SCAN_QUEUE)
        try:
            yield rabbit
        finally:
            rabbit.default_channel.queue_purge(SCAN_QUEUE)


def write_manifest(folder: Path, keys: int) -> Path:
    """Writes JSON Lines in Rekognition's form, with ETag and size."""
    path = folder / f"{keys}.jsonl"
    with path.open("w") as file:
        for number in range(keys):
            file.write(json.dumps({"source-ref": uri_of(number), "etag": etag_of(number), "size": 1000}) + "\n")
    return path


def sweep(
    manifest: Path, url: str, rabbit: Connection, *, code: Path = HERE, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Runs the command with the code in this folder to its end, and then deletes its messages from the queue."""
    environment = environment_of(code) | {
        "DATABASE_URL": url,
        "BROKER_URL": AMQP,
        "FAKESWEEP_MAX_QUEUE_DEPTH": "10000000",  # nobody takes messages
    }
    started = time.perf_counter()
    command = [sys.executable, "-m", "producers", "scan", str(manifest), "--json", *options]
    process = subprocess.Popen(command, env=environment, cwd=code, stdout=subprocess.PIPE, text=True)
    ended, status, peak_kib = 0, 0, 0
    while not ended:
        peak_kib = max(peak_kib, _peak_kib(process.pid))
        time.sleep(0.02)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    seconds = time.perf_counter() - started
    messages = rabbit.default_channel.queue_purge(SCAN_QUEUE)
    counts = json.loads((process.stdout and process.stdout.read()) or "{}")
    if status or messages * MAX_IMAGES < counts["listed"] - counts["reused"] - counts.get("unchanged", 0):
        raise RuntimeError(f"the scan failed: {counts}")
    return {
        "keys_per_s": round(counts["listed"] / seconds),
        "messages": messages,
        "reused": counts["reused"],
        "unchanged": counts.get("unchanged", 0),  # an earlier commit does not count them
        "status": counts["status"],
        "cpu_us_per_key": round((usage.ru_utime + usage.ru_stime) / counts["listed"] * 1e6, 1),
        "peak_memory_mib": round(peak_kib / 1024, 1),
    }


def _peak_kib(pid: int) -> int:
    """Returns the peak memory of the process. Its rusage would include this process before the exec."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0  # it has ended


def environment_of(code: Path) -> dict[str, str]:
    """Returns the environment in which Python finds the packages of this folder before installed ones."""
    return os.environ | {"PYTHONPATH": str(code)}
