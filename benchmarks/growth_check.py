"""Compares the model of benchmarks.growth with a small real scan on RabbitMQ and Postgres, with engines that sleep."""

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.growth import Rates, simulate
from benchmarks.scratch import AMQP, scratch_database
from tests.conftest import empty_queues
from tests.killing import write_pngs
from tests.processes import fakesweep, running_worker

WORKERS = (1, 2, 4)
IMAGES = 1024
THREADS, IMAGE_S, BOUND = 4, 0.4, 20
"""Each worker judges THREADS / IMAGE_S = 10 images per second. The engine sleeps long enough, so the CPU does not limit
the speed. The queue is far shorter than the scan.
"""
PUBLISHED = 1000.0
"""Messages per second: more than the queue has room for."""


def check() -> dict[str, Any]:
    """Returns how many seconds a scan takes with 1, 2 and 4 workers: predicted by the model, and measured."""
    figures: dict[str, Any] = {"images": IMAGES, "images_per_s_of_a_worker": THREADS / IMAGE_S, "bound": BOUND}
    rates = Rates(THREADS / IMAGE_S, PUBLISHED, PUBLISHED, BOUND, in_hand=THREADS)
    with tempfile.TemporaryDirectory() as folder:
        write_pngs(Path(folder) / "images", IMAGES)
        for workers in WORKERS:
            predicted = simulate(IMAGES, workers, rates, autoscaled=False).seconds
            seen = _seen(Path(folder), workers)
            figures[f"{workers} workers"] = {
                "predicted_s": round(predicted, 1), "seen_s": round(seen, 1),
                "difference": round(seen / predicted - 1, 3),
            }  # fmt: skip
    return figures


def _seen(folder: Path, workers: int) -> float:
    empty_queues(AMQP)
    with scratch_database() as (url, _), ExitStack() as stack:
        environment = {
            "DATABASE_URL": url, "BROKER_URL": AMQP, "FAKESWEEP_THREADS": str(THREADS),
            "FAKESWEEP_MAX_QUEUE_DEPTH": str(BOUND),
        }  # fmt: skip
        for number in range(workers):
            command = ["tests.scripted_worker", str(IMAGE_S), "-1"]
            stack.enter_context(running_worker(command, environment, folder / f"{workers}-{number}.log"))
        done = fakesweep("scan", str(folder / "images"), "--watch", "--json", environment=environment, timeout_s=500)
        scan = json.loads(done.stdout)["scan"]
        with psycopg.connect(url) as connection:
            lasted = "SELECT extract(epoch FROM max(decided_at) - min(created_at)) FROM findings, scans WHERE id = %s"
            row = connection.execute(lasted, [scan]).fetchone()
        return float(row[0]) if row else 0.0
