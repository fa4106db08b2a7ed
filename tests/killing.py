"""Kills producers again and again while they publish, and returns what their scan has at the end.

`python -m tests.killing FOLDER TOKEN IMAGES` is a producer that commits and publishes IMAGES images at a time.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
from PIL import Image
from psycopg.rows import dict_row

from producers import publishing, scans
from producers.bulk import BulkPublisher
from tests.processes import ROOT, running_worker, wait_for
from worker import broker
from worker.database import connect
from worker.messages import MAX_IMAGES
from worker.settings import Settings

QUEUE_DEPTH = 10
"""A number of messages that is so small that producers spend most of their time publishing."""

Producer = Callable[[Path, str], Sequence[str]]
"""Returns the arguments of `python -m` that sweep a folder under a token."""


def command_line(folder: Path, token: str) -> Sequence[str]:
    """The real command line. It commits 5,000 images at a time."""
    return ["producers", "scan", str(folder), "--token", token]


def in_small_chunks(folder: Path, token: str) -> Sequence[str]:
    """Commits no more than the queue takes at once, so that kills hit all steps of a scan."""
    return ["tests.killing", str(folder), token, str(QUEUE_DEPTH * MAX_IMAGES)]


@dataclass(frozen=True)
class Swept:
    """A scan that is over. `kills`: how many kills hit a producer at work. `uris`: those of its findings, with
    repetitions.

    `scans` and `unpublished` count the rows of the two tables.
    """

    kills: int
    status: str
    listed: int
    judged: int
    uris: Sequence[str]
    scans: int
    unpublished: int


def write_pngs(folder: Path, count: int, *, level: int = 5, start: int = 0) -> list[str]:
    """Writes tiny images of this grey level, each with its own content. Returns their uris.

    The scripted engine calls dark images real and bright ones fake.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (8, 8), (level, level, level))
    uris = []
    for number in range(start, start + count):
        path = folder.resolve() / f"{number:06d}.png"
        image.putpixel((7, 7), (number % 256, number // 256 % 256, number // 65536))
        image.save(path)
        uris.append(path.as_uri())
    return uris


def sweep_with_kills(
    kills: int,
    environment: Mapping[str, str],
    folder: Path,
    logs: Path,
    *,
    producer: Producer = command_line,
    seed: int = 1,
    longest_s: float = 0.8,
    ends_s: float = 120,
) -> Swept:
    """Sweeps a folder, and kills the producer `kills` times, each at most `longest_s` after it connects to the broker.

    `environment` names a database without scans and an empty broker. A scripted worker judges during this time.
    """
    chance = random.Random(seed)
    given = {**environment, "FAKESWEEP_MAX_QUEUE_DEPTH": str(QUEUE_DEPTH), "FAKESWEEP_THREADS": "4"}
    start = partial(_running, [sys.executable, "-m", *producer(folder, f"killed-{seed}")], given, logs)
    met = 0
    with running_worker(["tests.scripted_worker", "0", "-1"], given, logs / "worker.log", ready_s=60) as worker:
        for _ in range(kills):
            with start() as process:
                wait_for(partial(_at_work, process, given["BROKER_URL"]), 60)
                try:
                    process.wait(chance.uniform(0, longest_s))
                except subprocess.TimeoutExpired:
                    process.kill()
                    met += 1
        with start() as process:
            if process.wait(ends_s):
                raise AssertionError((logs / "producers.log").read_text(errors="replace")[-3000:])
        wait_for(lambda: _swept(given["DATABASE_URL"], met).status == "done", ends_s, worker.process, worker.log)
    return _swept(given["DATABASE_URL"], met)


@contextmanager
def _running(command: Sequence[str], environment: dict[str, str], logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (logs / "producers.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _at_work(process: subprocess.Popen[bytes], broker_url: str) -> bool:
    """Whether the process has a connection to the broker, or has ended."""
    port = urlsplit(broker_url).port
    try:
        connections = psutil.Process(process.pid).net_connections("tcp")
    except psutil.Error:
        return process.poll() is not None
    return process.poll() is not None or any(one.raddr and one.raddr.port == port for one in connections)


def _swept(database_url: str, kills: int) -> Swept:
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        (scan, *more) = connection.execute("SELECT status, listed, judged FROM scans").fetchall()
        findings = connection.execute("SELECT uri FROM findings ORDER BY uri").fetchall()
        left = connection.execute("SELECT id FROM unpublished").fetchall()
    uris = [row["uri"] for row in findings]
    return Swept(kills, **scan, uris=uris, scans=1 + len(more), unpublished=len(left))


def main() -> int:
    """Starts the scan with this token, or continues it."""
    folder, token, images = sys.argv[1:]
    settings = Settings.from_environment()
    database = connect(settings.database_url.get_secret_value())
    celery = broker.create_app(settings.broker_url.get_secret_value())
    with BulkPublisher(celery, max_depth=settings.max_queue_depth) as publisher:
        scan = scans.start_scan(database, scans.Listing(sources=(folder,)), token=token)
        publishing.publish_scan(publisher, database, scan.id, chunk_size=int(images))
    return 0


if __name__ == "__main__":
    sys.exit(main())
