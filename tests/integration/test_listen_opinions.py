"""A listener that asks for the judge of a cascade and for second opinions, and what workers make of its messages."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlmodel import select

from tests.integration.test_listen import Queue, event, own_redis, queue, taken
from tests.integration.test_metrics_served import running
from tests.processes import fakesweep, wait_for
from tests.second_opinions import FURTHER, IMAGES, Two
from worker.database import Database, transaction
from worker.errors import StorageUnavailableError
from worker.messages import LIVE_QUEUE, ImageRef, JudgeImages
from worker.moderate import moderate
from worker.tables import Scan, ScanStatus, Unpublished

__all__ = ["own_redis", "queue"]

ASKING = JudgeImages(images=(ImageRef(uri="s3://b/red"), ImageRef(uri="s3://b/white")), also=(FURTHER,))


@pytest.fixture
def two(database: Database) -> Two:
    return Two(database)


@dataclass
class Listener:
    """Runs `fakesweep listen` on a queue, with a broker and Postgres."""

    queue: Queue
    services: dict[str, str]
    log: Path

    def refused(self, *options: str, **services: str) -> tuple[int, str]:
        """Returns the exit code and stderr of a listener that does not start."""
        done = fakesweep("listen", self.queue.url, *options, environment=self.services | services)
        return done.returncode, done.stderr

    def until_empty(self, *options: str) -> list[tuple[UUID, dict[str, Any]]]:
        """Listens until all events are taken. Returns the ids and the content of the messages that it has published."""
        with running(["listen", self.queue.url, *options], self.services, self.log, "listening") as process:
            wait_for(lambda: self.queue.left() == 0, 40, process, self.log)
            with psycopg.connect(self.services["DATABASE_URL"]) as connection:
                query = (
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND application_name LIKE 'fakesweep%'"
                )
                assert connection.execute(query).fetchone() == (0,)  # it works on without Postgres
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        return [(UUID(headers["id"]), body[0][0]) for headers, body in taken(self.services["BROKER_URL"], LIVE_QUEUE)]


@pytest.fixture
def listener(two: Two, database_url: str, own_redis: str, queue: Queue, tmp_path: Path) -> Listener:
    """A listener beside workers that have started with a further detector."""
    two.parts()
    two.database.dispose()
    return Listener(queue, {"DATABASE_URL": database_url, "BROKER_URL": own_redis}, tmp_path / "listen.log")


def opinions(database: Database, scan_id: UUID) -> dict[str, tuple[str | None, bool]]:
    """For each image: the further detector's verdict, and whether it is missing."""
    query = text("SELECT uri, further_verdict, missing FROM second_opinions WHERE scan_id = :scan_id "
                 "AND further_name = :name")  # fmt: skip
    with transaction(database) as session:
        rows = session.execute(query, {"scan_id": scan_id, "name": FURTHER})
        return {row.uri: (row.further_verdict, row.missing) for row in rows}


def policy(database: Database, scan_id: UUID) -> dict[str, Any]:
    with transaction(database) as session:
        return session.get_one(Scan, scan_id).policy


def test_what_a_listener_asks_for_is_in_its_messages_and_workers_do_it(listener: Listener, two: Two) -> None:
    listener.queue.send(event("red.png"))
    ((message_id, message),) = listener.until_empty("--judge", "--also", FURTHER)
    assert (message["judge"], message["also"], "explain" in message) == (True, [FURTHER], False)
    two.store.objects = {"s3://photos/red.png": IMAGES["s3://b/red"]}
    message["images"][0].pop("etag")
    assert moderate(JudgeImages.parse(message), message_id, two.parts()) is None
    assert opinions(two.database, message_id) == {"s3://photos/red.png": ("fake", False)}
    stored = policy(two.database, message_id)
    assert (stored["judge"], stored["also"], stored["explain"]) == (True, [FURTHER], "flagged")


def test_without_the_options_a_listener_asks_for_neither_and_needs_no_database(listener: Listener) -> None:
    listener.queue.send(event("red.png"))
    listener.services["DATABASE_URL"] = ""
    with running(["listen", listener.queue.url], listener.services, listener.log, "listening") as process:
        wait_for(lambda: listener.queue.left() == 0, 40, process, listener.log)
    ((_, body),) = taken(listener.services["BROKER_URL"], LIVE_QUEUE)
    assert set(body[0][0]) & {"judge", "also"} == set()
    code, said = listener.refused("--judge")
    assert (code, said.count("\n"), "DATABASE_URL is not set" in said) == (2, 1, True)


def test_a_listener_refuses_what_submit_refuses_and_says_the_same(listener: Listener, database_url: str) -> None:
    listener.queue.send(event("red.png"))
    for options in (["--also", "nobody"], ["--also", "scripted"], ["--also", FURTHER, "--also", FURTHER]):
        submitted = fakesweep("submit", "s3://photos/red.png", *options, environment=listener.services)
        code, said = listener.refused(*options)
        assert (code, said.count("\n"), said) == (2, 1, submitted.stderr)
        assert repr(options[-1]) in said or "must not name a detector twice" in said
    for options, release in ((["--also", FURTHER], "0022"), (["--judge"], "0017")):
        with psycopg.connect(database_url, application_name=f"fakesweep {release}"):
            code, said = listener.refused(*options)
        assert (code, said.count("\n"), "older releases are connected" in said) == (1, 1, True)
    assert listener.queue.left() == 1
    assert taken(listener.services["BROKER_URL"], LIVE_QUEUE) == []


def test_a_submission_has_the_thresholds_that_its_further_detectors_have_now(database: Database, two: Two) -> None:
    parts, message_id = two.parts(), uuid4()
    (further,) = parts.also
    moderate(ASKING.model_copy(update={"also": (FURTHER, "nobody")}), message_id, parts)
    assert opinions(database, message_id) == {"s3://b/red": ("fake", False), "s3://b/white": ("fake", False)}
    stored = policy(database, message_id)
    assert stored["also"] == [FURTHER, "nobody"]
    assert stored["also_thresholds"] == {FURTHER: further.detector.description.thresholds.model_dump()}


def test_a_worker_without_the_detector_still_judges_the_images_of_a_message(database: Database, two: Two) -> None:
    two.parts()
    message_id = uuid4()
    moderate(ASKING, message_id, two.parts(holds_it=False))
    assert opinions(database, message_id) == {"s3://b/red": (None, True), "s3://b/white": (None, True)}
    with transaction(database) as session:
        assert session.get_one(Scan, message_id).status == ScanStatus.DONE


def test_images_that_come_later_still_get_their_second_opinion(database: Database, two: Two) -> None:
    message_id = uuid4()
    white, two.store.objects["s3://b/white"] = IMAGES["s3://b/white"], StorageUnavailableError("503")
    rest = moderate(ASKING, message_id, two.parts())
    assert rest
    two.store.objects["s3://b/white"] = white
    again = JudgeImages.parse(rest.payload())
    with transaction(database) as session:
        session.get_one(Scan, message_id).status = ScanStatus.PAUSED
    assert moderate(again, uuid4(), two.parts()) is None  # set aside
    assert moderate(ASKING, message_id, two.parts()) is None  # as a broker that delivers it once more
    with transaction(database) as session:
        aside = [one for row in session.exec(select(Unpublished)) for one in row.messages]
        session.get_one(Scan, message_id).status = ScanStatus.RUNNING
    assert len(aside) == 2
    for message in aside:
        assert moderate(JudgeImages.parse(message), uuid4(), two.parts()) is None
    assert opinions(database, message_id) == {"s3://b/red": ("fake", False), "s3://b/white": ("fake", False)}
