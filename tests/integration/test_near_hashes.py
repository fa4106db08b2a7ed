"""The path stores the hash of each content that it decodes, whatever its end, and never reuses by similarity."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image
from sqlalchemy import text
from sqlmodel import Session, col, select

from benchmarks.pictures import picture
from producers.near import near_duplicates
from tests.integration.test_moderate import findings, job, png, start
from tests.unit.test_pdq import jpeg
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.detector.vlm import VlmDetector
from worker.errors import EngineGenerateError
from worker.messages import ImageRef, Policy
from worker.moderate import moderate
from worker.parts import Parts
from worker.similarity import PdqHash, find_hasher
from worker.tables import ContentHash, Scan
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

FLAGS_ALL, FLAGS_NONE = Policy(fake_from=0.01, real_to=0.001), Policy(fake_from=0.999, real_to=0.99)


def parts_of(database: Database, objects: dict[str, bytes], **changes: Any) -> Parts:
    description = scripted_description()
    detector_id = register_detector(database, description.row())
    made = Parts(InMemoryImageStore(objects), database, VlmDetector(ScriptedEngine(), description), detector_id)
    return replace(made, **changes)


def photo(seed: int = 0, quality: int = 85) -> bytes:
    return jpeg(picture((640, 480), seed), quality)


def hashes(database: Database) -> dict[str, ContentHash]:
    with Session(database) as session:
        return {row.sha256: row for row in session.exec(select(ContentHash).order_by(col(ContentHash.sha256)))}


def sweep(database: Database, parts: Parts, *uris: str, policy: Policy | None = None) -> Scan:
    scan = start(database, len(uris), policy)
    moderate(job(scan, *uris), uuid4(), parts)
    return scan


def test_a_judged_image_has_its_hash(database: Database) -> None:
    parts = parts_of(database, {"s3://b/1": photo(1), "s3://b/2": photo(2), "s3://b/again": photo(1)})
    sweep(database, parts, "s3://b/1", "s3://b/2", "s3://b/again", policy=FLAGS_NONE)
    found = hashes(database)
    hasher = find_hasher()
    assert hasher is not None
    with transaction(database) as session:
        stored = session.execute(text("SELECT DISTINCT h.pdq::text, uri FROM content_hashes h JOIN verdicts USING"
                                      " (sha256) WHERE uri = 's3://b/1'")).one()[0]  # fmt: skip
    assert len(found) == 2
    assert all(row.quality == 100 and not row.in_question for row in found.values())
    judged = hasher(picture((640, 480), 1)).bits
    assert (int(stored, 2) ^ int(judged, 16)).bit_count() <= 4


def test_a_reused_image_without_a_hash_gets_one(database: Database) -> None:
    parts = parts_of(database, {"s3://b/1": photo(), "s3://b/2": photo()}, hasher=None)
    sweep(database, parts, "s3://b/1", policy=FLAGS_ALL)
    assert hashes(database) == {}
    hashing = parts_of(database, dict(parts.store.objects))  # type: ignore[attr-defined]
    scan = sweep(database, hashing, "s3://b/2", policy=FLAGS_ALL)
    assert findings(database, scan.id)["s3://b/2"].outcome == "reused"
    (row,) = hashes(database).values()
    assert row.in_question
    # It has its hash: it is not hashed again.
    sweep(database, replace(hashing, hasher=lambda _: PdqHash("0" * 64, 0)), "s3://b/1", policy=FLAGS_ALL)
    assert hashes(database)[row.sha256].pdq == row.pdq


def test_a_hash_that_comes_after_the_finding_is_in_question(database: Database) -> None:
    """The detector flagged it before there were hashes. A scan with other thresholds reuses the verdict as real."""
    parts = parts_of(database, {"s3://b/1": photo()})
    sweep(database, replace(parts, hasher=None), "s3://b/1", policy=FLAGS_ALL)
    sweep(database, parts, "s3://b/1", policy=FLAGS_NONE)
    assert [row.in_question for row in hashes(database).values()] == [True]


def test_a_finding_that_comes_after_the_hash_puts_it_in_question(database: Database) -> None:
    parts = parts_of(database, {"s3://b/1": photo()})
    sweep(database, parts, "s3://b/1", policy=FLAGS_NONE)
    assert [row.in_question for row in hashes(database).values()] == [False]
    sweep(database, parts, "s3://b/1", policy=FLAGS_ALL)
    assert [row.in_question for row in hashes(database).values()] == [True]


def test_an_image_that_cannot_be_decoded_for_its_hash_is_still_reused(database: Database) -> None:
    parts = parts_of(database, {"s3://b/1": photo()}, hasher=None)
    sweep(database, parts, "s3://b/1")
    small = replace(parts, hasher=find_hasher(), limits=replace(parts.limits, max_pixels=100))
    scan = sweep(database, small, "s3://b/1")
    assert findings(database, scan.id)["s3://b/1"].outcome == "reused"
    assert hashes(database) == {}


def test_an_image_that_has_its_hash_is_not_hashed_again(database: Database) -> None:
    parts = parts_of(database, {"s3://b/1": photo()})
    sweep(database, parts, "s3://b/1")
    calls: list[tuple[int, int]] = []

    def hasher(image: Image.Image) -> PdqHash:
        calls.append(image.size)
        return PdqHash("0" * 64, 0)

    sweep(database, replace(parts, hasher=hasher), "s3://b/1")
    assert calls == []


def test_a_refused_image_has_a_hash_and_a_file_that_is_no_image_has_none(database: Database) -> None:
    def refuse(_image: Image.Image) -> None:
        raise EngineGenerateError("no")

    refusing = VlmDetector(ScriptedEngine(fail=refuse), scripted_description())
    parts = parts_of(database, {"s3://b/1": photo(), "s3://b/2": b"text"}, detector=refusing)
    scan = sweep(database, parts, "s3://b/1", "s3://b/2", "s3://b/gone")
    assert {row.outcome for row in findings(database, scan.id).values()} == {"failed"}
    assert [row.in_question for row in hashes(database).values()] == [False]


def test_a_flat_image_has_a_hash_and_no_near_duplicates(database: Database) -> None:
    parts = parts_of(database, {"s3://b/1": png("white"), "s3://b/2": png("white", (500, 300))})
    sweep(database, parts, "s3://b/1", "s3://b/2")
    found = hashes(database)
    assert [row.quality for row in found.values()] == [0, 0]
    assert all(near_duplicates(database, sha256) == [] for sha256 in found)


def test_a_verdict_is_never_copied_by_similarity(database: Database) -> None:
    """A copy with one more byte is judged itself, and may get another verdict."""
    parts = parts_of(database, {"s3://b/1": photo(), "s3://b/copy": photo() + b"x", "s3://b/other": photo(0, 60)})
    sweep(database, parts, "s3://b/1", policy=FLAGS_ALL)
    fresh = replace(parts, detector=VlmDetector(ScriptedEngine(lambda _: 0.0001), scripted_description()))
    scan = sweep(database, fresh, "s3://b/copy", "s3://b/other", policy=FLAGS_ALL)
    assert {(row.outcome, row.verdict) for row in findings(database, scan.id).values()} == {("judged", "real")}
    real = [sha256 for sha256, row in hashes(database).items() if not row.in_question]
    assert len(real) == 2
    (near,) = near_duplicates(database, real[0])
    assert (near.uri, near.verdict, near.waits) == ("s3://b/1", "fake", True)


def test_an_unchanged_image_gets_its_hash_only_when_it_is_judged_again(database: Database) -> None:
    parts = parts_of(database, {"s3://b/1": photo()}, hasher=None)
    assert isinstance(parts.store, InMemoryImageStore)
    ref = ImageRef(uri="s3://b/1", etag=parts.store.etag("s3://b/1"))
    hashing = replace(parts, hasher=find_hasher())
    for with_parts, rejudge, count in ((parts, False, 0), (hashing, False, 0), (hashing, True, 1)):
        scan = start(database, 1)
        if rejudge:
            with transaction(database) as session:
                session.get_one(Scan, scan.id).rejudge = True
        moderate(job(scan, ref), uuid4(), with_parts)
        assert len(hashes(database)) == count


def test_workers_with_the_same_contents_in_another_order_store_each_once(database: Database) -> None:
    objects = {f"s3://b/{worker}/{number}": photo(number) for worker in range(4) for number in range(8)}
    parts = parts_of(database, objects)
    scans = [start(database, 8, FLAGS_ALL if worker % 2 else FLAGS_NONE) for worker in range(4)]

    def work(worker: int) -> None:
        uris = [f"s3://b/{worker}/{number}" for number in range(8)]
        moderate(job(scans[worker], *(uris if worker % 2 else uris[::-1])), uuid4(), parts)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [row.in_question for row in hashes(database).values()] == [True] * 8
    assert all(len(findings(database, scan.id)) == 8 for scan in scans)


@pytest.mark.parametrize("deaths", [0, 2])
def test_an_error_of_the_hasher_fails_one_image_and_not_the_message(database: Database, deaths: int) -> None:
    hasher = find_hasher()

    def poisoned(image: Image.Image) -> PdqHash:
        if image.size == (30, 30):
            raise RuntimeError("a bug")
        assert hasher is not None
        return hasher(image)

    parts = parts_of(database, {"s3://b/1": photo(), "s3://b/2": png("white", (30, 30))}, hasher=poisoned)
    scan = start(database, 2)
    moderate(job(scan, "s3://b/1", "s3://b/2"), uuid4(), parts, deaths=deaths)
    found = findings(database, scan.id)
    assert (found["s3://b/1"].outcome, found["s3://b/2"].reason) == ("judged", "engine_failed")
    assert len(hashes(database)) == 1
