"""Dead letters at the desk, on a real broker: only a button reads them, and only an admin takes them."""

import html
import re
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from celery import Celery
from fastapi.testclient import TestClient

from producers import dead_letters
from producers.web.overview.dead import LONGEST
from tests.desk import csrf_of, desk_app, logged_in, person
from worker import broker
from worker.database import Database
from worker.errors import InvalidMessageError
from worker.messages import LIVE_QUEUE, ImageRef, JudgeImages
from worker.tables import DeskRole

HOSTILE = '"><script>alert(1)</script>'
JOB = JudgeImages(images=(ImageRef(uri="s3://b/1.png"),)).model_dump(mode="json")


@dataclass
class Desk:
    """A lead and an admin at their browsers, and the broker."""

    celery: Celery
    lead: TestClient
    admin: TestClient

    def bury(self, payload: Any, reason: str = "it is no message") -> None:
        broker.dead_letter(self.celery, payload, InvalidMessageError(reason), "no id", queue=LIVE_QUEUE)

    def count(self) -> int:
        with self.celery.connection_for_write() as connection:
            return broker.dead_count(connection.default_channel)

    def send(self, browser: TestClient, path: str, **values: str) -> Any:
        return browser.post(path, data={"csrf": csrf_of(browser.get("/dead-letters").text), **values})

    def ids(self) -> list[str]:
        return re.findall(r"Letter <code>(\w+)</code>", self.send(self.lead, "/dead-letters").text)


@pytest.fixture(params=["redis", pytest.param("amqp", marks=pytest.mark.rabbitmq)])
def desk(request: pytest.FixtureRequest, database: Database) -> Desk:
    celery = broker.create_app(str(request.getfixturevalue(f"clean_{request.param}_url")))
    person(database, "owl", DeskRole.LEAD)
    person(database, "eagle", DeskRole.ADMIN)
    app = desk_app(database, broker=celery)
    return Desk(celery, logged_in(app, "owl"), logged_in(app, "eagle"))


def test_letters_are_counted_by_a_get_and_read_by_a_button(desk: Desk) -> None:
    assert "There is none." in desk.lead.get("/dead-letters").text
    desk.bury({"version": 9})
    page = desk.lead.get("/dead-letters").text
    assert "There is 1." in page
    assert "version" not in page
    read = desk.send(desk.lead, "/dead-letters").text
    assert "it is no message" in read
    assert "&#34;version&#34;: 9" in read
    assert "It cannot be published again" in read
    assert desk.count() == 1


def test_the_text_of_a_letter_is_escaped_and_cut(desk: Desk) -> None:
    desk.bury(HOSTILE + "\0\ud800" + "x" * (LONGEST + 1000), reason=HOSTILE)
    read = desk.send(desk.lead, "/dead-letters").text
    assert "<script>" not in read
    assert html.escape(HOSTILE) in read.replace("&#34;", "&quot;")
    assert "x" * 100 in read
    assert len(read) < 2 * LONGEST + 6000
    assert "more characters are not shown" in read


def test_an_admin_publishes_one_again_and_discards_another(desk: Desk) -> None:
    desk.bury(JOB)
    desk.bury({"version": 9})
    good, bad = desk.ids()
    assert desk.send(desk.admin, "/dead-letters/replay", letter=bad).status_code == 409
    answer = desk.send(desk.admin, "/dead-letters/replay", letter=good)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dead-letters")
    assert "published again" in desk.admin.get(answer.headers["location"]).text
    assert (desk.count(), broker.depth(desk.celery, LIVE_QUEUE)) == (1, 1)
    assert desk.send(desk.admin, "/dead-letters/replay", letter=good).status_code == 303
    assert "not there any more" in desk.admin.get("/dead-letters").text
    assert desk.send(desk.admin, "/dead-letters/discard", letter=bad).status_code == 422
    assert desk.count() == 1
    assert desk.send(desk.admin, "/dead-letters/discard", letter=bad, sure="yes").status_code == 303
    assert desk.count() == 0


def test_a_lead_only_looks(desk: Desk) -> None:
    desk.bury(JOB)
    read = desk.send(desk.lead, "/dead-letters").text
    assert "/dead-letters/replay" not in read
    (letter,) = desk.ids()
    for path in ("/dead-letters/replay", "/dead-letters/discard"):
        assert desk.send(desk.lead, path, letter=letter, sure="yes").status_code == 403
    assert (desk.count(), broker.depth(desk.celery, LIVE_QUEUE)) == (1, 0)


def test_an_unavailable_broker_is_named_without_its_address(database: Database) -> None:
    person(database, "owl", DeskRole.LEAD)
    app = desk_app(database, broker=broker.create_app("redis://:secret@127.0.0.1:9/0"))
    answer = logged_in(app, "owl").get("/dead-letters")
    assert (answer.status_code, "The broker cannot be reached" in answer.text) == (503, True)
    assert "secret" not in answer.text


def test_a_letter_is_not_lost_on_a_redis_that_was_emptied(clean_redis_url: str) -> None:
    app = broker.create_app(clean_redis_url)
    broker.publish(app, JudgeImages.parse(JOB), LIVE_QUEUE)  # from now on, Celery believes that the queue exists
    with redis.Redis.from_url(clean_redis_url) as client:
        client.flushdb()
    broker.dead_letter(app, JOB, InvalidMessageError("no message"), "no id", queue=LIVE_QUEUE)
    dead_letters.look_through(app, lambda _letter: dead_letters.Act.REPLAY)
    assert broker.depth(app, LIVE_QUEUE) == 1
