"""How fast are ten million findings loaded, read and dropped? Uses the tests' Postgres.

    python -m benchmarks.many_findings [--scans 10] [--images 1000000]

Loads the first scans in turns by our code (a scan whose images are all known) and by COPY into a partition of the same
table, and the other scans by COPY. Then runs the queries of the commands, and drops one scan.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from uuid import UUID

import psycopg

from benchmarks.load_findings import KnownImages, copy, copy_of, load
from benchmarks.scratch import know_images, scratch_database, uri_of, write_result
from producers import retention
from producers.reporting import contents, results
from worker.database import Database
from worker.database.detectors import register_detector
from worker.testing import scripted_description

TURNS, REPETITIONS = 2, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=10)
    parser.add_argument("--images", type=int, default=1_000_000)
    options = parser.parse_args()
    source = KnownImages(options.images)
    with scratch_database() as (url, database):
        know_images(url, register_detector(database, scripted_description().row()), options.images)
        ours: list[int] = []
        copied: list[int] = []
        loaded: list[UUID] = []
        rows: list[bytes] = []
        while len(loaded) < options.scans:
            mine = len(ours) < TURNS and len(ours) == len(copied)
            seconds, scan_id = load(database, source) if mine else copy(url, database, rows, options.images)
            (ours if mine else copied).append(round(options.images / seconds))
            rows = rows or copy_of(url, scan_id)
            loaded.append(scan_id)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE findings")
        figures = {
            "findings": len(loaded) * options.images,
            "loaded_per_s": {"ours": ours, "copy": copied},
            "ours_to_copy": round(statistics.mean(ours) / statistics.mean(copied[:TURNS]), 2),
            "query_ms": queries(database, loaded[0], options.images),
            "drop_s": drop(database, loaded[1]),
        }
    write_result("many_findings", figures)


def queries(database: Database, scan_id: UUID, images: int) -> dict[str, dict[str, float]]:
    """Returns the milliseconds of the commands' queries on an open connection: first, median and worst."""
    numbers = iter(range(0, images, max(1, images // (REPETITIONS + 2))))
    asked: dict[str, Callable[[], object]] = {
        "status": lambda: results.summary(database, scan_id),
        "newest_100_flagged": lambda: contents.flagged(database, contents.Wanted(), 100),
        "history_of_an_object": lambda: results.history(database, uri_of(next(numbers))),
    }
    return {name: timed(question) for name, question in asked.items()}


def timed(question: Callable[[], object]) -> dict[str, float]:
    """Returns milliseconds: the first time, the median and the worst."""
    times = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        if not question():
            raise SystemExit("nothing was found")
        times.append((time.perf_counter() - started) * 1000)
    return {"first": round(times[0], 1), "median": round(statistics.median(times), 1), "worst": round(max(times), 1)}


def drop(database: Database, scan_id: UUID) -> float:
    """Drops a scan's findings. Returns the seconds."""
    started = time.perf_counter()
    retention.drop_scan(database, scan_id)
    return round(time.perf_counter() - started, 3)


if __name__ == "__main__":
    main()
