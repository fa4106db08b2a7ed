"""What a worker counts and measures: Postgres is real; images, engine and broker are in memory."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, Task
from celery.exceptions import Reject
from kombu import Message
from PIL import Image

from producers import publishing, scans
from producers.counting import Counts
from producers.testing import InMemoryPublisher, InMemorySource
from tests.integration.test_moderate import BRIGHT, DARK, GREY, job, png, start
from worker import broker
from worker.database import Database, connect
from worker.database.detectors import register_detector
from worker.database.figures import review_backlog
from worker.detector.vlm import VlmDetector
from worker.envelope import REFUSED, SINCE, open_envelope
from worker.errors import StorageUnavailableError
from worker.messages import LIVE_QUEUE, SCAN_QUEUE, ImageRef, JudgeImages
from worker.moderate import moderate
from worker.path import Parts
from worker.tasks import register_tasks
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

MakeParts = Callable[..., Parts]


@pytest.fixture
def make_parts(database: Database) -> MakeParts:
    def make(objects: dict[str, bytes | Exception], engine: ScriptedEngine | None = None) -> Parts:
        description = scripted_description()
        detector_id = register_detector(database, description.row())
        return Parts(
            InMemoryImageStore(objects), database, VlmDetector(engine or ScriptedEngine(), description), detector_id
        )

    return make


def value(parts: Parts, name: str, queue: str = SCAN_QUEUE, **labels: str) -> float | None:
    return parts.metrics.registry.get_sample_value(f"fakesweep_{name}", {"queue": queue, **labels})


def raised(parts: Parts, name: str) -> dict[tuple[str, ...], float]:
    """The series of a metric that are not 0, by the values of their labels other than the queue."""
    return {
        tuple(text for label, text in sample.labels.items() if label != "queue" and text): sample.value
        for family in parts.metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"fakesweep_{name}" and sample.value
    }


def test_images_are_counted_by_their_end(database: Database, make_parts: MakeParts) -> None:
    objects: dict[str, bytes | Exception] = {
        "s3://b/fake": png(BRIGHT), "s3://b/twin": png(BRIGHT), "s3://b/real": png(DARK), "s3://b/grey": png(GREY),
        "s3://b/text": b"hello", "s3://b/moved": png(BRIGHT),
    }  # fmt: skip
    parts = make_parts(objects)
    store = parts.store
    assert isinstance(store, InMemoryImageStore)
    scan = start(database, 20)
    listed = ImageRef(uri="s3://b/real", etag=store.etag("s3://b/real"))
    first = job(scan, "s3://b/fake", "s3://b/twin", listed, "s3://b/grey", "s3://b/text", "s3://b/gone")
    moderate(first, uuid4(), parts)
    ends = {
        ("judged", "fake"): 1, ("judged", "real"): 1, ("judged", "uncertain"): 1, ("reused", "fake"): 1,
        ("failed", "not_an_image"): 1, ("failed", "not_found"): 1,
    }  # fmt: skip
    assert raised(parts, "images_total") == ends
    moderate(first, uuid4(), parts)
    assert raised(parts, "images_total") == ends, "a message that comes again counts nothing twice"
    moderate(job(start(database, 20), "s3://b/moved", listed), uuid4(), parts)
    assert raised(parts, "images_total") == {**ends, ("reused", "fake"): 2, ("reused", "real"): 1}
    assert raised(parts, "images_reused_total") == {("twin",): 1, ("seen",): 1, ("unchanged",): 1}


def test_the_duration_of_each_step_is_measured(database: Database, make_parts: MakeParts) -> None:
    parts = make_parts({"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK), "s3://b/3": StorageUnavailableError("503")})
    moderate(job(start(database, 3), "s3://b/1", "s3://b/2", "s3://b/3"), uuid4(), parts)
    counts = {"image_fetch": 3, "image_decode": 2, "message_engine": 1, "message_save": 1}
    assert {name: value(parts, f"{name}_seconds_count") for name in counts} == counts
    assert all((value(parts, f"{name}_seconds_sum") or 0) > 0 for name in counts)
    assert raised(parts, "tokens_total")["prompt",] == 6
    assert raised(parts, "tokens_total")["completion",] > 6


def test_only_the_new_outcomes_of_a_late_message_are_counted(database: Database, make_parts: MakeParts) -> None:
    """Two workers have the same message at the same time. Each counts only the outcomes that it saved itself."""
    other = make_parts({"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK)})
    scan = start(database, 2)

    def meanwhile(_image: Image.Image) -> None:
        moderate(job(scan, "s3://b/1"), uuid4(), other)

    parts = make_parts({"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK)}, ScriptedEngine(fail=meanwhile))
    moderate(job(scan, "s3://b/1", "s3://b/2"), uuid4(), parts)
    assert raised(other, "images_total") == {("judged", "fake"): 1}
    assert raised(parts, "images_total") == {("judged", "real"): 1}


def test_a_suspect_image_of_a_scan_counts_under_the_scans_queue(database: Database, make_parts: MakeParts) -> None:
    parts = make_parts({"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK)})
    moderate(job(start(database, 2), "s3://b/1", "s3://b/2"), uuid4(), parts, deaths=2)
    assert raised(parts, "images_total") == {("judged", "fake"): 1, ("judged", "real"): 1}
    assert value(parts, "images_total", SCAN_QUEUE, outcome="judged", verdict="fake", reason="") == 1


class Door:
    """The task, with a broker in memory whose queues are empty."""

    def __init__(self, parts: Parts, url: str = "memory://") -> None:
        live = replace(parts, live=True, metrics=parts.metrics.bound(queue=LIVE_QUEUE))
        self.app: Celery = broker.create_app(url)
        lanes = {SCAN_QUEUE: parts, LIVE_QUEUE: live}
        self.task: Task = register_tasks(self.app, lanes, retry_delay_s=30, on_engine_death=_no_death)
        if url == "memory://":
            self.published()

    def take(self, payload: object, queue: str = SCAN_QUEUE, headers: Mapping[str, Any] | None = None) -> None:
        info = {"routing_key": queue, "redelivered": False}
        self.task.push_request(**{"id": str(uuid4()), "delivery_info": info, **(headers or {})})
        try:
            self.task.run(payload)
        finally:
            self.task.pop_request()

    def published(self) -> list[Message]:
        """Takes the messages of all queues."""
        found: list[Message] = []
        with self.app.connection_for_write() as connection:
            broker.declare_queues(connection)
            for queue in (broker.work_queue(SCAN_QUEUE), broker.work_queue(LIVE_QUEUE), broker.dead_queue()):
                while message := queue(connection.default_channel).get(no_ack=True):
                    found.append(message)
        return found


@pytest.fixture(autouse=True)
def _empty_memory(make_parts: MakeParts) -> Iterator[None]:
    """Empties kombu's queues in memory, because all tests in the process share them."""
    yield
    Door(make_parts({}))


def _no_death(error: Exception) -> None:
    raise AssertionError(error)


def test_how_long_a_message_waited_is_measured(database: Database, make_parts: MakeParts) -> None:
    parts = make_parts({"s3://b/1": png(BRIGHT)})
    door, payload = Door(parts), job(start(database, 9), "s3://b/1").payload()
    earlier = {SINCE: time.time() - 100}
    door.take(payload, headers=earlier)
    door.take(payload, LIVE_QUEUE, {SINCE: time.time() + 5})
    door.take(payload)
    door.take(payload, headers={**earlier, "delivery_info": {"routing_key": SCAN_QUEUE, "redelivered": True}})
    assert value(parts, "message_wait_seconds_count") == 1
    assert 100 <= (value(parts, "message_wait_seconds_sum") or 0) < 130
    assert value(parts, "message_wait_seconds_count", LIVE_QUEUE) == 1
    assert value(parts, "message_wait_seconds_sum", LIVE_QUEUE) == 0, "the publisher's clock may be ahead"


def test_images_in_flight_are_counted(database: Database, make_parts: MakeParts) -> None:
    seen = []

    def look(_image: Image.Image) -> None:
        seen.append(value(parts, "images_in_flight"))

    parts = make_parts({"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK)}, ScriptedEngine(fail=look))
    Door(parts).take(job(start(database, 2), "s3://b/1", "s3://b/2").payload())
    assert seen == [2, 2]
    assert value(parts, "images_in_flight") == 0


def test_the_wait_of_a_message_that_is_published_again_starts_at_zero(
    database: Database, make_parts: MakeParts
) -> None:
    parts = make_parts({"s3://b/1": StorageUnavailableError("503")})
    door, before = Door(parts), datetime.now(UTC)
    door.take(job(start(database, 1), "s3://b/1").payload())
    (message,) = door.published()
    assert -1 < (datetime.fromisoformat(message.headers["published_at"]) - before).total_seconds() < 60
    envelope = open_envelope(message.headers, message.body, message.content_type)
    assert envelope.since == envelope.eta == datetime.fromisoformat(message.headers["eta"])


def test_retries_are_counted_by_their_cause(database: Database, make_parts: MakeParts) -> None:
    parts = make_parts({"s3://b/1": StorageUnavailableError("503")})
    payload = job(start(database, 1), "s3://b/1").payload()
    Door(parts).take(payload)
    assert raised(parts, "messages_retried_total") == {("storage_unavailable",): 1}
    away = replace(parts, database=connect("postgresql://u@127.0.0.1:9/none"))
    Door(away).take(payload)
    assert raised(parts, "messages_retried_total") == {("storage_unavailable",): 1, ("database_unavailable",): 1}
    parts.files.stop()
    with pytest.raises(Reject):
        Door(parts).take(payload)
    with pytest.raises(Reject):
        Door(parts, "redis://127.0.0.1:9/0").take({"version": 9})
    assert raised(parts, "messages_retried_total") == {
        ("storage_unavailable",): 1, ("database_unavailable",): 1, ("shutting_down",): 1, ("broker_unavailable",): 1,
    }  # fmt: skip
    assert raised(parts, "dead_letters_total") == {}, "no dead letter was published"


def test_dead_letters_are_counted_by_their_cause(database: Database, make_parts: MakeParts) -> None:
    class PanicError(BaseException):
        """Like the error that a library in Rust raises."""

    def panic(_image: Image.Image) -> None:
        raise PanicError

    parts = make_parts({"s3://b/1": png(BRIGHT)}, ScriptedEngine(fail=panic))
    door, payload = Door(parts), job(start(database, 2), "s3://b/1").payload()
    door.take({"version": 9}, LIVE_QUEUE)
    assert raised(parts, "dead_letters_total") == {("invalid",): 1}
    assert value(parts, "dead_letters_total", LIVE_QUEUE, cause="invalid") == 1
    door.take(payload)
    door.take(payload, headers={REFUSED: "the message expired"})
    assert raised(parts, "dead_letters_total") == {("invalid",): 1, ("fault",): 1, ("given_up",): 1}
    assert raised(parts, "images_total") == {("failed", "engine_failed"): 1}


def test_a_producer_counts_what_it_lists_and_publishes(database: Database, make_parts: MakeParts) -> None:
    parts = make_parts({f"s3://b/{n}": png(f"rgb({n}, {n}, {n})") for n in range(48)})
    assert _published(database, parts, 40) == Counts(listed=40, published=40)
    assert _published(database, parts, 48) == Counts(listed=48, published=8, known=40)


def test_the_review_backlog_of_an_empty_database(database: Database) -> None:
    """The schema has the view that is queried, under that name."""
    assert review_backlog(database) == 0


def _published(database: Database, parts: Parts, images: int) -> Counts:
    """Publishes a scan of the first images and judges them. Returns what the producer counted."""
    store = parts.store
    assert isinstance(store, InMemoryImageStore)
    refs = [ImageRef(uri=uri, etag=store.etag(uri)) for uri in list(store.objects)[:images]]
    scan = scans.start_scan(database, scans.Listing(sources=("s3://b/",)))
    publisher = InMemoryPublisher()
    told: list[Counts] = []
    publishing.publish_scan(
        publisher, database, scan.id, chunk_size=20, count=told.append,
        opened=lambda _sources, rules, _warn: InMemorySource(refs, rules),
    )  # fmt: skip
    for _, message in publisher.published:
        moderate(JudgeImages.parse(message), uuid4(), parts)
    return Counts(*(sum(numbers) for numbers in zip(*map(astuple, told), strict=True)))
