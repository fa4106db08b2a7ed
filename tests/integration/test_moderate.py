"""The path on a real Postgres, with a scripted engine and images in memory."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from PIL import Image
from sqlalchemy import event
from sqlmodel import Session, select

from producers import scans
from worker.database import Database, connect, transaction
from worker.database.detectors import register_detector
from worker.detector.vlm import VlmDetector
from worker.errors import (
    DatabaseUnavailableError,
    EngineDeadError,
    EngineGenerateError,
    InvalidMessageError,
    ShuttingDownError,
    StorageUnavailableError,
)
from worker.messages import Explain, ImageRef, JudgeImages, Policy
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import Finding, Scan, ScanStatus, StoredVerdict
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

BRIGHT, DARK, GREY = "white", "black", "#808080"


def png(colour: str, size: tuple[int, int] = (400, 300)) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, colour).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def make_parts(database: Database) -> Callable[..., Parts]:
    def make(
        objects: dict[str, bytes | Exception], engine: ScriptedEngine | None = None, retry_limit: int = 5
    ) -> Parts:
        description = scripted_description()
        detector_id = register_detector(database, description.row())
        store, used = InMemoryImageStore(objects), engine or ScriptedEngine()
        return Parts(store, database, VlmDetector(used, description), detector_id, retry_limit=retry_limit)

    return make


def start(database: Database, listed: int, policy: Policy | None = None) -> Scan:
    """A scan whose listing is complete."""
    scan = scans.start_scan(database, scans.Listing(sources=("s3://b/",)), policy=policy)
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        row.listed, row.status = listed, ScanStatus.RUNNING
    return scan


def job(scan: Scan | None, *refs: ImageRef | str, **changes: object) -> JudgeImages:
    images = tuple(ImageRef(uri=ref) if isinstance(ref, str) else ref for ref in refs)
    return JudgeImages(scan_id=scan.id if scan else None, images=images, **changes)


def findings(database: Database, scan_id: UUID) -> dict[str, Finding]:
    with Session(database) as session:
        return {row.uri: row for row in session.exec(select(Finding).where(Finding.scan_id == scan_id))}


def counts(database: Database, scan_id: UUID) -> dict[str, object]:
    with Session(database) as session:
        scan = session.get_one(Scan, scan_id)
        names = ("status", "judged", "reused", "failed", "fake", "uncertain", "real")
        return {name: getattr(scan, name) for name in names}


def test_every_image_gets_its_outcome(database: Database, make_parts: Callable[..., Parts]) -> None:
    parts = make_parts({"s3://b/bright": png(BRIGHT), "s3://b/dark": png(DARK), "s3://b/grey": png(GREY),
                        "s3://b/text": b"hello", "s3://b/empty": b""})  # fmt: skip
    scan = start(database, 6)
    refs = ["s3://b/bright", "s3://b/dark", "s3://b/grey", "s3://b/text", "s3://b/empty", "s3://b/gone"]
    assert moderate(job(scan, *refs), uuid4(), parts) is None
    found = findings(database, scan.id)
    assert {uri: (row.outcome, row.verdict, row.reason) for uri, row in found.items()} == {
        "s3://b/bright": ("judged", "fake", None),
        "s3://b/dark": ("judged", "real", None),
        "s3://b/grey": ("judged", "uncertain", None),
        "s3://b/text": ("failed", None, "not_an_image"),
        "s3://b/empty": ("failed", None, "empty"),
        "s3://b/gone": ("failed", None, "not_found"),
    }
    assert (found["s3://b/bright"].width, found["s3://b/bright"].height) == (400, 300)
    assert counts(database, scan.id) == {
        "status": "done", "judged": 3, "reused": 0, "failed": 3, "fake": 1, "uncertain": 1, "real": 1,
    }  # fmt: skip


def test_a_redelivered_message_does_nothing_twice(database: Database, make_parts: Callable[..., Parts]) -> None:
    engine = ScriptedEngine()
    parts = make_parts({"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK)}, engine)
    scan = start(database, 3)
    first = job(scan, "s3://b/1", "s3://b/2")
    moderate(first, uuid4(), parts)
    before = counts(database, scan.id)
    for deaths in (0, 2):
        moderate(first, uuid4(), parts, deaths=deaths)
    assert counts(database, scan.id) == before
    assert engine.calls == [2]


def test_the_same_content_is_judged_once(database: Database, make_parts: Callable[..., Parts]) -> None:
    engine = ScriptedEngine()
    content = png(BRIGHT)
    parts = make_parts({f"s3://b/{n}": content for n in range(4)}, engine)
    scan = start(database, 4)
    moderate(job(scan, "s3://b/0", "s3://b/1"), uuid4(), parts)
    moderate(job(scan, "s3://b/2", "s3://b/3"), uuid4(), parts)
    found = findings(database, scan.id)
    assert engine.calls == [1]
    assert [found[f"s3://b/{n}"].reused_from for n in range(4)] == [None, "s3://b/0", "s3://b/0", "s3://b/0"]
    assert {row.verdict for row in found.values()} == {"fake"}
    assert len({row.verdict_id for row in found.values()}) == 1


def test_an_unchanged_object_is_not_fetched(database: Database, make_parts: Callable[..., Parts]) -> None:
    parts = make_parts({"s3://b/1": png(BRIGHT)})
    store = parts.store
    assert isinstance(store, InMemoryImageStore)
    ref = ImageRef(uri="s3://b/1", etag=store.etag("s3://b/1"))
    for number in (1, 2):
        scan = start(database, 1)
        moderate(job(scan, ref), uuid4(), parts)
        assert findings(database, scan.id)["s3://b/1"].outcome == ("judged" if number == 1 else "reused")
    assert store.fetched == ["s3://b/1"]


def test_a_verdict_that_explains_too_little_is_not_reused(database: Database, make_parts: Callable[..., Parts]) -> None:
    parts = make_parts({"s3://b/1": png(DARK)})
    outcomes = []
    for explain in (Explain.NONE, Explain.FLAGGED, Explain.ALL, Explain.FLAGGED):
        scan = start(database, 1, Policy(explain=explain))
        moderate(job(scan, "s3://b/1"), uuid4(), parts)
        outcomes.append(findings(database, scan.id)["s3://b/1"].outcome)
    assert outcomes == ["judged", "judged", "judged", "reused"]


def test_another_detector_reuses_nothing(database: Database, make_parts: Callable[..., Parts]) -> None:
    parts = make_parts({"s3://b/1": png(DARK)})
    moderate(job(start(database, 1), "s3://b/1"), uuid4(), parts)
    newer = scripted_description(revision="2")
    other = replace(
        parts, detector=VlmDetector(ScriptedEngine(), newer), detector_id=register_detector(database, newer.row())
    )
    scan = start(database, 1)
    moderate(job(scan, "s3://b/1"), uuid4(), other)
    assert findings(database, scan.id)["s3://b/1"].outcome == "judged"


def test_a_scans_thresholds_decide(database: Database, make_parts: Callable[..., Parts]) -> None:
    parts = make_parts({"s3://b/1": png("#c0c0c0")})  # a score of 0.75
    for policy, verdict in ((Policy(), "fake"), (Policy(fake_from=0.9, real_to=0.1), "uncertain")):
        scan = start(database, 1, policy)
        moderate(job(scan, "s3://b/1"), uuid4(), parts)
        assert findings(database, scan.id)["s3://b/1"].verdict == verdict


def test_unavailable_storage_is_tried_again_until_the_image_fails(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    parts = make_parts({"s3://b/1": png(DARK), "s3://b/2": StorageUnavailableError("503")}, retry_limit=2)
    scan = start(database, 2)
    later = moderate(job(scan, "s3://b/1", "s3://b/2"), uuid4(), parts)
    assert later is not None
    assert [ref.uri for ref in later.images] == ["s3://b/2"]
    assert (later.attempt, counts(database, scan.id)["status"]) == (1, "running")
    last = moderate(later, uuid4(), parts)
    assert last is not None
    assert moderate(last, uuid4(), parts) is None
    finding = findings(database, scan.id)["s3://b/2"]
    assert (finding.reason, finding.attempts, finding.detail) == ("storage_unavailable", 3, "503")
    assert counts(database, scan.id)["status"] == "done"


def test_a_refused_image_fails_alone(database: Database, make_parts: Callable[..., Parts]) -> None:
    def refuse_bright(image: Image.Image) -> None:
        if image.getpixel((0, 0)) == (255, 255, 255):
            raise EngineGenerateError("no")

    parts = make_parts({"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK)}, ScriptedEngine(fail=refuse_bright))
    scan = start(database, 2)
    moderate(job(scan, "s3://b/1", "s3://b/2"), uuid4(), parts)
    found = findings(database, scan.id)
    assert (found["s3://b/1"].reason, found["s3://b/2"].verdict) == ("engine_failed", "real")


def test_an_unexpected_error_fails_one_image_and_not_the_message(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    objects: dict[str, bytes | Exception] = {"s3://b/1": png(DARK), "s3://b/2": RuntimeError("a bug")}
    scan = start(database, 2)
    moderate(job(scan, "s3://b/1", "s3://b/2"), uuid4(), make_parts(objects))
    found = findings(database, scan.id)
    assert (found["s3://b/1"].verdict, found["s3://b/2"].reason) == ("real", "engine_failed")


def test_an_image_that_kills_workers_does_not_dead_letter_the_others(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    def die_of_bright(image: Image.Image) -> None:
        if image.getpixel((0, 0)) == (255, 255, 255):
            raise EngineDeadError("gone")

    objects: dict[str, bytes | Exception] = {"s3://b/0": png(DARK), "s3://b/1": png(BRIGHT), "s3://b/2": png(GREY)}
    scan = start(database, 3)
    message = job(scan, *objects)
    deaths = 0
    for _ in range(6):
        # Each time, the process ends and a new one takes the message.
        try:
            moderate(message, uuid4(), make_parts(objects, ScriptedEngine(fail=die_of_bright)), deaths=deaths)
        except EngineDeadError:
            deaths += 1
    assert deaths == 4
    assert {uri: row.outcome for uri, row in findings(database, scan.id).items()} == {
        "s3://b/0": "judged", "s3://b/1": "failed", "s3://b/2": "judged",
    }  # fmt: skip
    assert findings(database, scan.id)["s3://b/1"].reason == "engine_failed"
    assert counts(database, scan.id)["status"] == "done"


def test_a_message_without_a_scan_is_a_submission_under_its_own_id(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    parts = make_parts({"s3://b/1": png(BRIGHT)})
    message_id = uuid4()
    message = job(None, ImageRef(uri="s3://b/1", external_id="post-7"), explain=Explain.ALL)
    for _ in range(2):
        moderate(message, message_id, parts)
    (finding,) = findings(database, message_id).values()
    assert (finding.verdict, finding.external_id) == ("fake", "post-7")
    assert counts(database, message_id)["status"] == "done"


def test_a_message_of_a_scan_that_does_not_exist_is_invalid(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    message = JudgeImages(scan_id=uuid4(), images=(ImageRef(uri="s3://b/1"),))
    with pytest.raises(InvalidMessageError, match="no scan"):
        moderate(message, uuid4(), make_parts({}))


def test_a_stopping_worker_starts_nothing_new(database: Database, make_parts: Callable[..., Parts]) -> None:
    parts = make_parts({"s3://b/1": png(BRIGHT)})
    parts.files.stop()
    scan = start(database, 1)
    with pytest.raises(ShuttingDownError):
        moderate(job(scan, "s3://b/1"), uuid4(), parts)
    assert findings(database, scan.id) == {}


def test_verdicts_are_append_only(database: Database, make_parts: Callable[..., Parts]) -> None:
    moderate(job(start(database, 1), "s3://b/1"), uuid4(), make_parts({"s3://b/1": png(BRIGHT)}))
    with pytest.raises(Exception, match="append-only"), transaction(database) as session:
        session.exec(select(StoredVerdict)).one().score = 0.0


def test_details_with_nul_characters_are_stored(database: Database, make_parts: Callable[..., Parts]) -> None:
    from worker.errors import ImageError, Reason

    objects: dict[str, bytes | Exception] = {"s3://b/1": ImageError(Reason.CORRUPT, "bad\x00 byte\n here")}
    scan = start(database, 1)
    moderate(job(scan, "s3://b/1"), uuid4(), make_parts(objects))
    assert findings(database, scan.id)["s3://b/1"].detail == "bad byte here"


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("The hand\0 has six fingers.", "The hand has six fingers."),
        ("\0\0A seam \ud83d there \udc00.", "A seam \ufffd there \ufffd."),
        ("\ud800", "\ufffd"),
        ("A smile \ud83d\ude00.", "A smile 😀."),
    ],
)
def test_no_text_of_the_model_prevents_its_verdict(
    database: Database, make_parts: Callable[..., Parts], said: str, stored: str
) -> None:
    scan = start(database, 1)
    engine = ScriptedEngine(explanation=said)
    moderate(job(scan, "s3://b/1"), uuid4(), make_parts({"s3://b/1": png(BRIGHT)}, engine))
    (finding,) = findings(database, scan.id).values()
    assert (finding.outcome, finding.verdict) == ("judged", "fake")
    with Session(database) as session:
        (verdict,) = session.exec(select(StoredVerdict)).all()
    assert verdict.completion == f"This is a fake image. {stored}"
    assert verdict.explanation == stored
    assert engine.calls == [1]


def test_again_replaces_failures_and_nothing_else(database: Database, make_parts: Callable[..., Parts]) -> None:
    objects: dict[str, bytes | Exception] = {"s3://b/1": png(BRIGHT), "s3://b/2": StorageUnavailableError("503")}
    scan = start(database, 2)
    moderate(job(scan, *objects), uuid4(), make_parts(objects, retry_limit=0))
    assert counts(database, scan.id)["failed"] == 1
    engine = ScriptedEngine()
    cured = make_parts({"s3://b/1": png(DARK), "s3://b/2": png(DARK)}, engine)
    for _ in range(2):
        moderate(job(scan, *objects, again=True), uuid4(), cured)
    found = findings(database, scan.id)
    assert {uri: row.verdict for uri, row in found.items()} == {"s3://b/1": "fake", "s3://b/2": "real"}
    assert engine.calls == [1]
    assert counts(database, scan.id) == {
        "status": "done", "judged": 2, "reused": 0, "failed": 0, "fake": 1, "uncertain": 0, "real": 1,
    }  # fmt: skip


def test_a_read_only_database_is_unavailable_and_the_message_is_not_at_fault(
    database: Database, database_url: str, make_parts: Callable[..., Parts]
) -> None:
    parts = make_parts({"s3://b/1": png(DARK)})
    scan = start(database, 1)
    read_only = connect(database_url)

    @event.listens_for(read_only, "connect")
    def demote(connection: Any, _record: object) -> None:
        connection.execute("SET default_transaction_read_only = on")
        connection.commit()

    with pytest.raises(DatabaseUnavailableError):
        moderate(job(scan, "s3://b/1"), uuid4(), replace(parts, database=read_only))
    read_only.dispose()


def test_a_suspect_image_that_kills_no_worker_is_judged_at_last(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    objects: dict[str, bytes | Exception] = {"s3://b/1": StorageUnavailableError("503")}
    scan = start(database, 1)
    for _ in range(5):
        assert moderate(job(scan, "s3://b/1"), uuid4(), make_parts(objects), deaths=2) is not None
    moderate(job(scan, "s3://b/1"), uuid4(), make_parts({"s3://b/1": png(DARK)}), deaths=2)
    assert findings(database, scan.id)["s3://b/1"].verdict == "real"


def test_two_workers_with_one_message_count_it_once(database: Database, make_parts: Callable[..., Parts]) -> None:
    """The second delivery is judged and saved while the first is still in its engine."""
    objects: dict[str, bytes | Exception] = {"s3://b/1": png(DARK)}
    scan = start(database, 1)
    message = job(scan, *objects)

    def be_overtaken(_image: Image.Image) -> None:
        moderate(message, uuid4(), make_parts(objects))

    moderate(message, uuid4(), make_parts(objects, ScriptedEngine(fail=be_overtaken)))
    assert list(findings(database, scan.id)) == ["s3://b/1"]
    assert (counts(database, scan.id)["judged"], counts(database, scan.id)["real"]) == (1, 1)
