"""Saving on a real Postgres: what it costs, many workers that save at once, and workers that end in the middle."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from PIL import Image
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from benchmarks.statements import costs, counted
from producers import retention, scans
from tests.integration.test_moderate import BRIGHT, DARK, counts, findings, job, png, start
from worker.budget import HELD_BYTES
from worker.case import Case, Content, Delivery, Failed, Judged
from worker.database import Database, connect, transaction
from worker.database import findings as saving
from worker.database.detectors import register_detector
from worker.detector.verdicts import Answer, Judgement
from worker.detector.vlm import VlmDetector
from worker.errors import EngineGenerateError, ImageError, Reason
from worker.messages import ImageRef, Policy
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import Scan, StoredObject, StoredVerdict
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

POLICY = Policy(fake_from=0.6, real_to=0.4)


@pytest.fixture
def detector_id(database: Database) -> int:
    return register_detector(database, scripted_description().row())


def parts_of(database: Database, detector_id: int, objects: dict[str, bytes | Exception], **more: Any) -> Parts:
    engine = more.pop("engine", None) or ScriptedEngine()
    return Parts(
        InMemoryImageStore(objects), database, VlmDetector(engine, scripted_description()), detector_id, **more
    )


def delivery(scan: Scan, detector_id: int, **more: Any) -> Delivery:
    return Delivery(scan, POLICY.filled(fake_from=0.6, real_to=0.4), detector_id, **more)


def judged(*uris: str) -> list[Case]:
    judgement = Judgement(Answer.REAL, -3.0, 0.05, "This is a real image.", None, False, False, 590, 7, 20)
    return [
        Case(ImageRef(uri=uri, etag="e"), Judged(Content(f"{abs(hash(uri)):064x}"[:64], 100), judgement, (640, 480)))
        for uri in uris
    ]


def deadlocks(database: Database) -> int:
    """How many deadlocks Postgres has ended in this database."""
    with transaction(database) as session:
        session.execute(text("SELECT pg_stat_force_next_flush()"))
    with transaction(database) as session:
        found = session.execute(text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))
        return int(found.scalar_one())


@pytest.mark.parametrize(
    ("message", "statements", "commits"),
    [("16 new", 5, 3), ("16 known", 4, 2), ("8 new and 8 known", 5, 3), ("16 seen elsewhere", 5, 3), ("1 new", 5, 3)],
)
def test_a_message_costs_no_more_statements_for_more_images(
    message: str, statements: int, commits: int, database: Database
) -> None:
    cost = costs(database)[message]
    assert (cost["statements"], cost["commits"]) == (statements, commits), cost["of"]


def test_counters_stay_exact_after_a_wait_for_the_scans_row(database: Database, detector_id: int) -> None:
    """The row changes while the statement waits for it. Postgres reads the row again, but not the findings."""
    scan = start(database, 1000, POLICY)
    with ThreadPoolExecutor(1) as pool:
        with transaction(database) as session:
            session.execute(text("UPDATE scans SET judged = 7, real = 7, listed = 8"))
            cases = judged("s3://b/1", "s3://b/2", "s3://b/3")
            future = pool.submit(saving.save, database, cases, delivery(scan, detector_id))
            with pytest.raises(TimeoutError):
                future.result(timeout=1)
            assert findings(database, scan.id) == {}
        future.result(timeout=10)
    assert len(findings(database, scan.id)) == 3
    found = counts(database, scan.id)
    assert (found["judged"], found["real"], found["status"]) == (10, 10, "done")


def test_many_workers_on_one_scan_count_every_image_once(database: Database, detector_id: int) -> None:
    scan = start(database, 8 * 20 * 4, POLICY)

    def save(worker: int) -> None:
        for number in range(20):
            own = [f"s3://b/{worker}/{number}/{image}" for image in range(3)]
            # One image of each message is in the messages of all workers.
            saving.save(database, judged(*own, f"s3://b/all/{number}"), delivery(scan, detector_id))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(8)))
    assert len(findings(database, scan.id)) == 8 * 20 * 3 + 20
    assert counts(database, scan.id)["judged"] == 8 * 20 * 3 + 20


def test_messages_with_the_same_uris_do_not_deadlock(database: Database, detector_id: int) -> None:
    uris = [f"s3://b/{number}" for number in range(16)]
    started = [start(database, 10_000, POLICY) for _ in range(4)]

    def save(number: int) -> None:
        for _ in range(25):
            ordered = uris if number % 2 else uris[::-1]
            saving.save(database, judged(*ordered), delivery(started[number], detector_id))
            with transaction(database) as session:
                session.execute(text("DELETE FROM findings WHERE scan_id = :id"), {"id": started[number].id})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, range(4)))
    assert deadlocks(database) == 0


def test_if_a_worker_dies_after_saving_the_next_one_ends_the_scan(database: Database, detector_id: int) -> None:
    parts = parts_of(database, detector_id, {"s3://b/1": png(BRIGHT)})
    scan = start(database, 1)
    message = job(scan, "s3://b/1")
    moderate(message, uuid4(), parts)
    with transaction(database) as session:  # as it is between saving and ending the scan
        session.execute(text("UPDATE scans SET status = 'running', finished_at = NULL"))
    moderate(message, uuid4(), parts, deaths=2)
    assert counts(database, scan.id)["status"] == "done"


@pytest.mark.parametrize("lost", ["the answer", "settling"])
def test_a_scan_ends_even_if_the_connection_breaks_after_the_commit(
    lost: str, database: Database, database_url: str, detector_id: int
) -> None:
    """The message is saved, but the worker does not know it. Its second try finds nothing new."""
    scan = start(database, 1)
    breaking = connect(database_url)
    broken: list[str] = []

    def break_once(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        wanted = "WITH added" if lost == "the answer" else "UPDATE scans SET status"
        if statement.startswith(wanted) and not broken:
            broken.append(statement)
            with transaction(database) as session:
                pid = connection.connection.driver_connection.info.backend_pid
                session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            if lost == "the answer":
                raise OperationalError(statement, {}, psycopg.OperationalError("the connection is lost"))

    moment = "after_cursor_execute" if lost == "the answer" else "before_cursor_execute"
    event.listen(breaking, moment, break_once)
    moderate(job(scan, "s3://b/1"), uuid4(), parts_of(breaking, detector_id, {"s3://b/1": png(BRIGHT)}))
    breaking.dispose()
    assert broken
    found = counts(database, scan.id)
    assert (found["status"], found["judged"]) == ("done", 1)


def test_a_submission_that_is_dropped_while_it_is_judged_gets_no_findings(database: Database, detector_id: int) -> None:
    """Its partition holds all submissions of the month, so it stays."""
    message_id = uuid4()

    def drop(_image: Image.Image) -> None:
        scans.cancel(database, message_id)
        retention.drop_scan(database, message_id)

    objects: dict[str, bytes | Exception] = {"s3://b/1": png(DARK)}
    parts = parts_of(database, detector_id, objects, engine=ScriptedEngine(fail=drop))
    assert moderate(job(None, "s3://b/1"), message_id, parts) is None
    assert findings(database, message_id) == {}
    assert counts(database, message_id)["judged"] == 0
    with Session(database) as session:
        assert session.exec(select(StoredObject.rule)).one() is None, "a scan that records changes looks at it again"


@pytest.mark.parametrize("kind", ["scan", "submission"])
def test_the_last_image_ends_its_scan(kind: str, database: Database, detector_id: int) -> None:
    parts = parts_of(database, detector_id, {"s3://b/1": png(BRIGHT)})
    scan = start(database, 1) if kind == "scan" else None
    message_id = uuid4()
    moderate(job(scan, "s3://b/1"), message_id, parts)
    with Session(database) as session:
        row = session.get_one(Scan, scan.id if scan else message_id)
        assert (row.status, row.finished_at is not None) == ("done", True)


def test_an_unchanged_image_keeps_its_row_in_objects(database: Database, detector_id: int) -> None:
    parts = parts_of(database, detector_id, {"s3://b/1": png(BRIGHT)})
    assert isinstance(parts.store, InMemoryImageStore)
    ref = ImageRef(uri="s3://b/1", etag=parts.store.etag("s3://b/1"))

    def remembered() -> tuple[Any, ...]:
        with Session(database) as session:
            row = session.exec(select(StoredObject)).one()
            return row.verdict_id, row.fetched_at

    moderate(job(start(database, 1), ref), uuid4(), parts)
    before = remembered()
    moderate(job(start(database, 1), ref), uuid4(), parts)
    assert remembered() == before
    with transaction(database) as session:  # as an earlier release left it
        session.execute(text("UPDATE objects SET verdict_id = NULL"))
    moderate(job(start(database, 1), ref), uuid4(), parts)
    assert remembered()[0] == before[0]


def test_large_files_are_not_all_held_at_once(database: Database, detector_id: int) -> None:
    """Files that have more than HELD_BYTES together are looked up, decoded and released part by part."""
    small = png(BRIGHT)
    size = HELD_BYTES // 4

    class FreshStore:
        """Makes each file's bytes when it is fetched, so that only the caller holds them."""

        def fetch(self, ref: ImageRef) -> bytes:
            return small + ref.uri.encode() + bytes(size)

    uris = [f"s3://b/{number}" for number in range(16)]
    scan = start(database, len(uris))
    parts = replace(parts_of(database, detector_id, {}), store=FreshStore())
    moderate(job(scan, "s3://b/warm-up"), uuid4(), parts)
    tracemalloc.start()
    with counted(database) as asked:
        moderate(job(scan, *uris), uuid4(), parts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(count for statement, count in asked.items() if "unnest" in statement) == 4
    assert counts(database, scan.id)["judged"] == len(uris) + 1
    assert peak < HELD_BYTES + 2 * size


def test_a_broken_file_has_its_sha256_stored_and_a_refused_image_its_size(database: Database, detector_id: int) -> None:
    def refuse(_image: Image.Image) -> None:
        raise EngineGenerateError("no")

    objects: dict[str, bytes | Exception] = {"s3://b/text": b"hello", "s3://b/refused": png(DARK)}
    scan = start(database, 2)
    parts = parts_of(database, detector_id, objects, engine=ScriptedEngine(fail=refuse))
    moderate(job(scan, *objects), uuid4(), parts)
    found = findings(database, scan.id)
    assert found["s3://b/text"].sha256 is not None
    assert (found["s3://b/refused"].width, found["s3://b/refused"].height) == (400, 300)
    with Session(database) as session:
        assert len(session.exec(select(StoredObject)).all()) == 2
        assert session.exec(select(StoredVerdict)).all() == []


def test_an_answer_that_cannot_be_stored_fails_one_image_and_not_the_message(
    database: Database, detector_id: int
) -> None:
    objects: dict[str, bytes | Exception] = {"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK)}
    scan = start(database, 2)
    with transaction(database) as session:
        session.execute(text("ALTER TABLE verdicts ADD CHECK (explanation <> 'Refused.')"))
    parts = parts_of(database, detector_id, objects, engine=ScriptedEngine(explanation="Refused."))
    moderate(job(scan, *objects), uuid4(), parts)
    found = {uri: (row.verdict, row.reason) for uri, row in findings(database, scan.id).items()}
    assert found == {"s3://b/1": (None, "engine_failed"), "s3://b/2": ("real", None)}
    assert counts(database, scan.id)["status"] == "done"


def test_findings_are_locked_in_one_order_too(database: Database, detector_id: int) -> None:
    """Failed images have no rows in `objects`. With such rows, the messages would already wait for each other there."""
    with transaction(database) as session:
        session.execute(text("CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
                             " $$ BEGIN PERFORM pg_sleep(0.003); RETURN NEW; END $$"))  # fmt: skip
        session.execute(text("CREATE TRIGGER wait BEFORE INSERT ON findings FOR EACH ROW EXECUTE FUNCTION wait()"))
    failed = [
        Case(ImageRef(uri=f"s3://b/{number}"), Failed(ImageError(Reason.NOT_FOUND, "gone"))) for number in range(16)
    ]

    def save(number: int, scan: Scan) -> None:
        saving.save(database, failed if number % 2 else failed[::-1], delivery(scan, detector_id))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            scan = start(database, 10_000, POLICY)
            list(pool.map(save, range(4), [scan] * 4))
    assert deadlocks(database) == 0


def test_the_scans_row_is_free_when_the_statement_has_ended(database: Database, detector_id: int) -> None:
    """Other workers wait for the row, so it must be free even before this process commits."""
    scan = start(database, 100, POLICY)
    locked: list[object] = []

    def look(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("WITH added"):
            with transaction(database) as session:
                locked.append(session.get(Scan, scan.id, with_for_update={"nowait": True}))

    event.listen(database, "after_cursor_execute", look)
    saving.save(database, judged("s3://b/1"), delivery(scan, detector_id))
    assert len(locked) == 1


def test_a_listed_etag_is_not_forgotten_when_the_same_content_comes_without_one(
    database: Database, detector_id: int
) -> None:
    def etag_after(content: str, etag: str | None) -> str | None:
        scan = start(database, 100, POLICY)
        end = Failed(ImageError(Reason.CORRUPT, "broken"), Content(content, 1))
        saving.save(database, [Case(ImageRef(uri="s3://b/1", etag=etag), end)], delivery(scan, detector_id))
        with Session(database) as session:
            return session.exec(select(StoredObject)).one().etag

    assert [etag_after("a", "e"), etag_after("a", None), etag_after("b", None)] == ["e", "e", None]


def test_an_empty_etag_is_none(database: Database, detector_id: int) -> None:
    """Two empty ETags would be equal, so a replaced object would be reused without being fetched."""
    objects: dict[str, bytes | Exception] = {"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK)}
    parts = parts_of(database, detector_id, objects)
    assert isinstance(parts.store, InMemoryImageStore)
    refs = [ImageRef(uri="s3://b/1", etag=""), ImageRef(uri="s3://b/2", etag=parts.store.etag("s3://b/2"))]
    moderate(job(start(database, 2), *refs), uuid4(), parts)
    parts.store.objects["s3://b/1"] = png(DARK, (20, 20))
    scan = start(database, 2)
    moderate(job(scan, *refs), uuid4(), parts)
    assert {uri: (row.outcome, row.verdict) for uri, row in findings(database, scan.id).items()} == {
        "s3://b/1": ("judged", "real"), "s3://b/2": ("reused", "real"),
    }  # fmt: skip


@pytest.mark.parametrize("deaths", [0, 2])
def test_an_unchanged_image_keeps_its_verdict_when_another_one_fails_unexpectedly(
    deaths: int, database: Database, detector_id: int
) -> None:
    """It is not fetched again, since it may be gone or archived."""
    parts = parts_of(database, detector_id, {"s3://b/1": png(BRIGHT), "s3://b/2": RuntimeError("a bug")})
    assert isinstance(parts.store, InMemoryImageStore)
    known = ImageRef(uri="s3://b/1", etag=parts.store.etag("s3://b/1"))
    moderate(job(start(database, 1), known), uuid4(), parts)
    del parts.store.objects["s3://b/1"]
    scan = start(database, 2)
    moderate(job(scan, known, "s3://b/2"), uuid4(), parts, deaths=deaths)
    found = {uri: (row.outcome, row.reason) for uri, row in findings(database, scan.id).items()}
    assert found == {"s3://b/1": ("reused", None), "s3://b/2": ("failed", "engine_failed")}


def test_a_scan_without_limits_costs_no_statement_for_them(database: Database, detector_id: int) -> None:
    scan = start(database, 10_000, POLICY)
    with transaction(database) as session:
        session.execute(text("UPDATE scans SET judged = 5000, fake = 5000,"
                             " max_flagged_share = NULL, max_failed_share = NULL"))  # fmt: skip
    with counted(database) as asked:
        saving.save(database, judged("s3://b/1"), delivery(scan, detector_id))
    assert asked.total() == 2, asked
