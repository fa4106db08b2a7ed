"""Ten million findings: how fast are they loaded, read and dropped? Postgres as the tests find it.

    python -m benchmarks.many_findings [--scans 10] [--images 1000000]

Loads the first scans in turns by our code (a scan whose images are all known) and by COPY into a partition of the same
table, the others by COPY, then asks what the commands ask, and drops one scan.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import psycopg

from benchmarks.scratch import etag_of, know_images, scratch_database, uri_of, write_result
from producers import publishing, retention, scans
from producers.limits import Limits
from producers.listing import Page
from producers.reporting import results
from producers.testing import InMemoryPublisher
from worker.database import Database
from worker.database.detectors import register_detector
from worker.database.partitions import TABLE_PREFIX
from worker.messages import ImageRef
from worker.testing import scripted_description

TURNS, REPETITIONS = 2, 20

_COLUMNS = "uri, external_id, outcome, verdict, score, verdict_id, reused_from, etag, sha256, width, height, attempts"


class KnownImages:
    """A Source of so many images, made before the clock starts."""

    def __init__(self, images: int) -> None:
        self._refs = [ImageRef(uri=uri_of(n), etag=etag_of(n), size=1000) for n in range(images)]

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source."""
        for start in range(int(cursor or 0), len(self._refs), 1000):
            yield Page(tuple(self._refs[start : start + 1000]), str(start + 1000), {})


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


def load(database: Database, source: KnownImages) -> tuple[float, UUID]:
    """Seconds in which our code writes a scan's findings, and its id."""
    scan = scans.start_scan(database, scans.Listing(sources=("s3://archive/",)), limits=Limits(None, None))
    started = time.perf_counter()
    status = publishing.publish_scan(InMemoryPublisher(), database, scan.id, opened=lambda *_: source)
    seconds = time.perf_counter() - started
    if status != "done":
        raise SystemExit(f"the scan is {status}: not every image was known")
    return seconds, scan.id


def copy_of(url: str, scan_id: UUID) -> list[bytes]:
    """A scan's rows as COPY writes and takes them, without what names the scan."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        partition = f'"{TABLE_PREFIX}scan_{scan_id.hex}"'
        with cursor.copy(f"COPY (SELECT {_COLUMNS} FROM {partition} ORDER BY uri) TO STDOUT".encode()) as out:
            return [bytes(block) for block in out]


def copy(url: str, database: Database, rows: list[bytes], images: int) -> tuple[float, UUID]:
    """Seconds in which COPY writes the same rows into a partition of its own, and the scan's id."""
    scan = scans.start_scan(database, scans.Listing(sources=("s3://archive/",)))
    table = f'"{TABLE_PREFIX}{scan.partition}"'
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for name, value in (("partition", scan.partition), ("scan_id", scan.id)):
            cursor.execute(f"ALTER TABLE {table} ALTER {name} SET DEFAULT '{value}'".encode())
        cursor.execute(
            "UPDATE scans SET status = 'done', listed = %s, reused = %s, finished_at = now() WHERE id = %s",
            [images, images, scan.id],
        )
        connection.commit()
        started = time.perf_counter()
        with cursor.copy(f"COPY {table} ({_COLUMNS}) FROM STDIN".encode()) as into:
            for block in rows:
                into.write(block)
        connection.commit()
        return time.perf_counter() - started, scan.id


def queries(database: Database, scan_id: UUID, images: int) -> dict[str, dict[str, float]]:
    """Milliseconds of what the commands ask, the connection open: the median and the worst of many."""
    numbers = iter(range(0, images, max(1, images // (REPETITIONS + 2))))
    asked: dict[str, Callable[[], object]] = {
        "status": lambda: results.summary(database, scan_id),
        "newest_100_flagged": lambda: results.newest_flagged(database, 100),
        "history_of_an_object": lambda: results.history(database, uri_of(next(numbers))),
    }
    return {name: timed(question) for name, question in asked.items()}


def timed(question: Callable[[], object]) -> dict[str, float]:
    """Milliseconds: of the first time, the median and the worst."""
    times = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        if not question():
            raise SystemExit("nothing was found")
        times.append((time.perf_counter() - started) * 1000)
    return {"first": round(times[0], 1), "median": round(statistics.median(times), 1), "worst": round(max(times), 1)}


def drop(database: Database, scan_id: UUID) -> float:
    """Seconds in which a scan's findings are dropped."""
    started = time.perf_counter()
    retention.drop_scan(database, scan_id)
    return round(time.perf_counter() - started, 3)


if __name__ == "__main__":
    main()
