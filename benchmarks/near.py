"""How much does the hash for near duplicates cost a worker, and how fast are they found among a million contents?

`near.path.SIZE` compares CPU seconds with and without the hash, for the whole path of an image in one process, with
images in memory, an engine without costs and a real Postgres. `near.hash.SIZE` is the hash alone; its limit is 2 ms.
`near.threads` compares two threads that hash at once with one: Pillow releases Python's lock, but pdqhash does not.
`near.page` counts the waiting near duplicates for the 50 rows of a page of the queue; its limit is 150 ms. `near.item`
compares the search for near duplicates of one content with a comparison with all hashes.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import psycopg
from PIL import Image
from sqlalchemy import text

from benchmarks.comparison import Comparison, Wanted, in_turns
from benchmarks.costless_worker import CostlessEngine
from benchmarks.pictures import SIZES, files, picture
from benchmarks.scratch import scratch_database
from producers.near import MAX_DISTANCE, near_counts, near_duplicates
from producers.scans import Listing, start_scan
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.detector.vlm import VlmDetector
from worker.images import Decoding, open_for
from worker.messages import ImageRef, JudgeImages
from worker.moderate import moderate
from worker.parts import Parts
from worker.similarity import find_hasher
from worker.tables import Scan, ScanStatus
from worker.testing import InMemoryImageStore, scripted_description

ROUNDS, REPETITIONS = 5, 40
COUNTS = {"0.3": 96, "0.8": 96, "3": 48}
"""Images per round, by megapixels."""
WANTED_MS = {"hash": 2.0, "page": 150.0}
CONTENTS, PAGE = 1_000_000, 50

_FILL = """
CREATE FUNCTION pg_temp.hash(n int) RETURNS bit(256) LANGUAGE sql IMMUTABLE
AS $$ SELECT ('x' || md5(n::text) || md5('x' || n))::bit(256) $$;
ALTER TABLE content_hashes DISABLE TRIGGER USER;
ALTER TABLE contents DISABLE TRIGGER USER;
INSERT INTO content_hashes (sha256, pdq, quality, in_question)
SELECT md5(n::text) || md5('y' || n), set_bit(set_bit(pg_temp.hash(n / 10), n % 256, n % 2), 7 * n % 256, n % 2),
       100, true
FROM generate_series(1, {contents}) n;
INSERT INTO contents (sha256, detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places)
SELECT sha256, {detector}, 'fake', random(), 1, 's3://b/' || sha256, gen_random_uuid(), now(), now(), 1
FROM content_hashes;
ALTER TABLE content_hashes ENABLE TRIGGER USER;
ALTER TABLE contents ENABLE TRIGGER USER;
"""
"""A million contents in groups of ten near duplicates."""

_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE tablename = 'content_hashes' AND indexname LIKE '%_word_%' OR tablename = 'contents' AND indexname LIKE 'ix_%'
"""

_FULL_SCAN = """
SELECT b.sha256 FROM content_hashes a, content_hashes b
WHERE a.sha256 = :content AND b.sha256 <> a.sha256 AND b.in_question AND b.quality >= 50
  AND bit_count(a.pdq # b.pdq) <= {most}
"""


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Measures the path, the hash and the search."""
    yield from _hashes(wanted)
    if any(wanted(f"near.path.{size}") for size in COUNTS):
        with scratch_database() as (_url, database):
            yield from _paths(wanted, database)
    if wanted("near.page") or wanted("near.item"):
        with scratch_database() as (url, database):
            _fill(url, register_detector(database, scripted_description().row()))
            yield from _searches(database)


def _hashes(wanted: Wanted) -> Iterator[Comparison]:
    hasher = find_hasher()
    if hasher is None:
        raise SystemExit("pdqhash is not installed")
    for size in COUNTS:
        (data,) = files(size, "jpeg", 1).values()
        image = open_for(data, decoding=Decoding.REDUCED).pixels
        if wanted(name := f"near.hash.{size}"):
            ours = tuple(1000 * _cpu_s(lambda image=image: hasher(image), REPETITIONS) for _ in range(ROUNDS))  # type: ignore[misc]
            yield Comparison(name, "CPU ms per image", ours, (WANTED_MS["hash"],) * ROUNDS, 1.0, higher_is_better=False)
    if wanted("near.threads"):
        image = picture(SIZES["0.8"], 0)
        two, one = in_turns(lambda: _rate(hasher, image, 2), lambda: _rate(hasher, image, 1), ROUNDS)
        yield Comparison("near.threads", "images/s", two, one, None, higher_is_better=True)


def _rate(hasher: Callable[[Image.Image], object], image: Image.Image, threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: hasher(image), range(400)))
    return 400 / (time.perf_counter() - started)


def _cpu_s(work: Callable[[], object], count: int) -> float:
    work()
    started = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - started) / count


def _paths(wanted: Wanted, database: Database) -> Iterator[Comparison]:
    description = scripted_description(preprocessing={"decode": Decoding.REDUCED})
    detector_id = register_detector(database, description.row())
    parts = Parts(InMemoryImageStore({}), database, VlmDetector(CostlessEngine(), description), detector_id)
    for size, count in COUNTS.items():
        if wanted(name := f"near.path.{size}"):
            drawn = list(files(size, "jpeg", 4).values())
            _path_s(parts, drawn, 16)
            ours, without = in_turns(
                lambda drawn=drawn, count=count: _path_s(parts, drawn, count),  # type: ignore[misc]
                lambda drawn=drawn, count=count: _path_s(replace(parts, hasher=None), drawn, count),  # type: ignore[misc]
                ROUNDS,
            )
            yield Comparison(name, "CPU seconds per image", ours, without, None, higher_is_better=False)


def _path_s(parts: Parts, drawn: Sequence[bytes], count: int) -> float:
    """Returns CPU seconds of this process per image, in messages of 16 new contents.

    Bytes after a picture's end, which decoders ignore, make each file another content.
    """
    run = uuid4()
    objects = {f"s3://b/{run}/{n}": drawn[n % len(drawn)] + f"{run}/{n}".encode() for n in range(count)}
    parts = replace(parts, store=InMemoryImageStore(objects))
    scan = start_scan(parts.database, Listing(sources=("s3://b/",)))
    with transaction(parts.database) as session:
        row = session.get_one(Scan, scan.id)
        row.listed, row.status = 1_000_000, ScanStatus.RUNNING
    refs = [ImageRef(uri=uri) for uri in objects]
    before = time.process_time()
    for start in range(0, count, 16):
        moderate(JudgeImages(scan_id=scan.id, images=tuple(refs[start : start + 16])), uuid4(), parts)
    return (time.process_time() - before) / count


def _fill(url: str, detector_id: int) -> None:
    """Fills the tables. Building the indexes after the rows are inserted takes a tenth of the time."""
    with psycopg.connect(url, autocommit=True) as connection:
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}".encode())
        connection.execute(_FILL.format(contents=CONTENTS, detector=detector_id).encode())
        for _, definition in indexes:
            connection.execute(definition.encode())
        connection.execute("VACUUM ANALYZE content_hashes, contents")


def _searches(database: Database) -> Iterator[Comparison]:
    chance = random.Random(0)
    with transaction(database) as session:
        asked = list(session.execute(text("SELECT sha256 FROM content_hashes TABLESAMPLE bernoulli (0.2)")).scalars())
    pages = [chance.sample(asked, PAGE) for _ in range(ROUNDS * 4)]
    near_counts(database, pages[0])
    times = [_ms(lambda page=page: near_counts(database, page)) for page in pages]  # type: ignore[misc]
    ours = tuple(statistics.median(times[start::ROUNDS]) for start in range(ROUNDS))
    yield Comparison("near.page", "ms", ours, (WANTED_MS["page"],) * ROUNDS, 1.0, higher_is_better=False)
    full = text(_FULL_SCAN.format(most=MAX_DISTANCE))

    def scan_all(content: str) -> None:
        with transaction(database) as session:
            session.execute(full, {"content": content}).all()

    ours, scanned = in_turns(
        lambda: _ms(lambda: near_duplicates(database, chance.choice(asked))),
        lambda: _ms(lambda: scan_all(chance.choice(asked))),
        ROUNDS,
    )
    yield Comparison("near.item", "ms", ours, scanned, 0.5, higher_is_better=False)


def _ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)
