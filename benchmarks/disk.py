"""How much disk do findings take, and how much write-ahead log do they cause?

    python -m benchmarks.disk [--images 1000000] [--flagged 0.05]

It uses an embedded Postgres of its own, so that nothing else writes into its log. Images are saved as a worker saves
them, 16 per message. Then the same archive is scanned again, when all of it is known, with a finding for each image
(`--record all`), as a producer saves them.
"""

import argparse
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.load_findings import KnownImages, load
from benchmarks.scratch import etag_of, uri_of, write_result
from deploy.demo.services import embedded_postgres
from producers.scans import Listing, start_scan
from worker.case import Case, Content, Delivery, Judged
from worker.database import Database, connect, findings, transaction
from worker.database.detectors import register_detector
from worker.detector.verdicts import Answer, Judgement
from worker.messages import MAX_IMAGES, ImageRef, Policy
from worker.migrate import upgrade
from worker.similarity import PdqHash
from worker.tables import Scan, ScanStatus
from worker.testing import scripted_description

EXPLANATION = "The light on the face comes from the left; the shadow of the nose falls to the left too; " * 6
"""540 characters: what a model writes in about 120 tokens."""

_SIZES = """
SELECT coalesce(parent.relname, own.relname), sum(pg_total_relation_size(own.oid))::bigint,
       sum(pg_indexes_size(own.oid))::bigint
FROM pg_class own LEFT JOIN pg_inherits i ON i.inhrelid = own.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
WHERE own.relkind = 'r' AND own.relnamespace = 'public'::regnamespace GROUP BY 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--flagged", type=float, default=0.05)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded_postgres(Path(folder)) as url:
        database = connect(url)
        upgrade(database)
        detector_id = register_detector(database, scripted_description().row())
        empty = _sizes(url)
        first, judged = _measured(url, options.images, empty, lambda: _judge(database, detector_id, options))
        source = KnownImages(options.images)
        again, _ = _measured(url, options.images, judged, lambda: load(database, source))
        database.dispose()
    write_result("disk", {**vars(options), "postgres": 18, "first_scan": first, "same_images_again": again})


def _measured(url: str, images: int, before: dict[str, tuple[int, int]], work: Any) -> tuple[dict[str, Any], Any]:
    """Returns what `work` adds: bytes per image with indexes, by table, and of write-ahead log. And the sizes then."""
    log, started = _log_bytes(url, 0), time.perf_counter()
    work()
    seconds, written = time.perf_counter() - started, _log_bytes(url, log)
    after = _sizes(url)
    added = {name: [(now - then) / images for now, then in zip(size, before.get(name, (0, 0)), strict=True)]
             for name, size in after.items()}  # fmt: skip
    return {
        "seconds": round(seconds, 1),
        "bytes_an_image": {name: round(total, 1) for name, (total, _) in sorted(added.items()) if total >= 1},
        "of_it_indexes": {name: round(index, 1) for name, (_, index) in sorted(added.items()) if index >= 1},
        "bytes_an_image_in_all": round(sum(total for total, _ in added.values())),
        "log_bytes_an_image": round(written / images),
    }, after


def _sizes(url: str) -> dict[str, tuple[int, int]]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        return {name: (total, index) for name, total, index in connection.execute(_SIZES)}


def _log_bytes(url: str, since: int) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint - %s", [since]).fetchone()
        return int(row[0]) if row else 0


def _judge(database: Database, detector_id: int, options: argparse.Namespace) -> None:
    scan = start_scan(database, Listing(sources=("s3://archive/",)), policy=Policy(fake_from=0.6, real_to=0.4))
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        row.listed, row.status = 10**9, ScanStatus.RUNNING
    with transaction(database) as session:
        delivery = _delivery(session.get_one(Scan, scan.id), detector_id)
    every = round(1 / options.flagged)
    for start in range(0, options.images, MAX_IMAGES):
        findings.save(database, [_case(n, every) for n in range(start, start + MAX_IMAGES)], delivery)
    _end(database, scan.id)


def _delivery(scan: Scan, detector_id: int) -> Delivery:
    policy = Policy.model_validate(scan.policy).filled(fake_from=0.6, real_to=0.4)
    return Delivery(scan, policy, detector_id)


def _end(database: Database, scan_id: UUID) -> None:
    with transaction(database) as session:
        session.get_one(Scan, scan_id).status = ScanStatus.DONE


def _case(number: int, every: int) -> Case:
    """Returns an image that was judged, with a content of its own. One in `every` is fake and explained."""
    uri = uri_of(number)
    digest = hashlib.sha256(uri.encode())
    pdq = PdqHash(digest.hexdigest(), 100)
    if number % every:
        said = Judgement(Answer.REAL, -3.0, 0.05, "This is a real image.", None, False, False, 590, 7, 20)
    else:
        text = f"This is a fake image. {EXPLANATION}"
        said = Judgement(Answer.FAKE, 3.0, 0.95, text, EXPLANATION, False, False, 590, 120, 2000)
    ref = ImageRef(uri=uri, etag=etag_of(number), size=1000)
    return Case(ref, Judged(Content(digest.hexdigest(), 100_000, pdq), said, (1024, 768)))


if __name__ == "__main__":
    main()
