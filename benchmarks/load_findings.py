"""How fast are a scan's findings loaded if every image is known, compared with COPY of the same rows?

COPY writes into a partition of the same table, with the same indexes and constraints, and looks nothing up.
"""

import time
from collections.abc import Iterator
from uuid import UUID

import psycopg

from benchmarks.comparison import Comparison, Wanted, in_turns
from benchmarks.scratch import etag_of, know_images, scratch_database, uri_of
from producers import publishing, scans
from producers.garbage import collect_seldom
from producers.limits import Limits
from producers.listing import Page
from producers.testing import InMemoryPublisher
from worker.database import Database
from worker.database.detectors import register_detector
from worker.database.partitions import TABLE_PREFIX
from worker.messages import ImageRef
from worker.testing import scripted_description

IMAGES = 400_000
ROUNDS = 3
TARGET = 0.5

_COLUMNS = "uri, external_id, outcome, verdict, score, verdict_id, reused_from, etag, sha256, width, height, attempts"


def compare(_wanted: Wanted) -> Iterator[Comparison]:
    """Compares rows per second of a scan, with its source in memory, with those of COPY."""
    source = KnownImages(IMAGES)
    collect_seldom()  # as the command does
    with scratch_database() as (url, database):
        know_images(url, register_detector(database, scripted_description().row()), IMAGES)
        _, scan_id = load(database, source)  # not counted: it warms the caches, and makes the rows for COPY
        rows = copy_of(url, scan_id)
        ours, copied = in_turns(
            lambda: IMAGES / load(database, source)[0],
            lambda: IMAGES / copy(url, database, rows, IMAGES)[0],
            ROUNDS,
        )
    yield Comparison("load_findings", "rows/s", ours, copied, TARGET, higher_is_better=True)


class KnownImages:
    """A Source of this many images, which are made before the clock starts."""

    def __init__(self, images: int) -> None:
        self._refs = [ImageRef(uri=uri_of(n), etag=etag_of(n), size=1000) for n in range(images)]

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source."""
        for start in range(int(cursor or 0), len(self._refs), 1000):
            yield Page(tuple(self._refs[start : start + 1000]), str(start + 1000), {})


def load(database: Database, source: KnownImages) -> tuple[float, UUID]:
    """Writes a scan's findings with our code. Returns the seconds, and the scan's id."""
    scan = scans.start_scan(database, scans.Listing(sources=("s3://archive/",)), limits=Limits(None, None))
    started = time.perf_counter()
    status = publishing.publish_scan(InMemoryPublisher(), database, scan.id, opened=lambda *_: source)
    seconds = time.perf_counter() - started
    if status != "done":
        raise RuntimeError(f"the scan is {status}: not every image was known")
    return seconds, scan.id


def copy_of(url: str, scan_id: UUID) -> list[bytes]:
    """Returns a scan's rows in the form that COPY writes and reads, without the columns that name the scan."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        partition = f'"{TABLE_PREFIX}scan_{scan_id.hex}"'
        with cursor.copy(f"COPY (SELECT {_COLUMNS} FROM {partition} ORDER BY uri) TO STDOUT".encode()) as out:
            return [bytes(block) for block in out]


def copy(url: str, database: Database, rows: list[bytes], images: int) -> tuple[float, UUID]:
    """Writes the same rows with COPY into a partition of its own. Returns the seconds, and the scan's id."""
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
