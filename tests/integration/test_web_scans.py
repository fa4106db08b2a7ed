"""Scans from the desk: started, paused, resumed and cancelled, with a real broker and real publishing processes."""

import html
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psutil
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from producers.web.scans import ScanProcesses
from tests.desk import csrf_of, desk_app, logged_in, person, settings
from tests.integration.test_broker import put, query, settings_for
from tests.processes import wait_for
from worker import broker
from worker.database import Database, transaction
from worker.messages import SCAN_QUEUE
from worker.tables import DeskRole

IMAGES = 40
_FAILED = """
INSERT INTO findings (partition, scan_id, uri, outcome, reason, attempts, decided_at)
SELECT partition, id, 's3://b/' || n, 'failed', CASE n WHEN 3 THEN 'corrupt' ELSE 'engine_failed' END, 1, now()
FROM scans, generate_series(1, 3) n WHERE id = :scan
"""


@dataclass
class Desk:
    """A lead at their browser, with a broker and a bucket of images."""

    app: FastAPI
    browser: TestClient
    url: str
    source: str

    def form(self, path: str = "/scans/new") -> dict[str, str]:
        """The hidden fields of a page's form."""
        return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', self.browser.get(path).text))

    def send(self, path: str, **values: str) -> Any:
        return self.browser.post(path, data=values)

    def start(self, **values: str) -> UUID:
        answer = self.send("/scans", **{**self.form(), "sources": self.source, **values})
        assert answer.status_code == 303, answer.text
        return UUID(answer.headers["location"].rpartition("/")[2])

    def act(self, scan: UUID, act: str, **values: str) -> Any:
        return self.send(f"/scans/{scan}/{act}", **self.form(f"/scans/{scan}/{act}"), **values)

    def scan(self, scan: UUID, *columns: str) -> tuple[Any, ...]:
        (row,) = query(self.url, f"SELECT {', '.join(columns)} FROM scans WHERE id = %s", scan)
        return row

    def wait(self, scan: UUID, status: str) -> None:
        wait_for(lambda: self.scan(scan, "status") == (status,), 60)

    @property
    def processes(self) -> ScanProcesses:
        found: ScanProcesses = self.app.state.parts.scans
        return found


@pytest.fixture
def desk(
    database: Database, database_url: str, clean_redis_url: str, bucket: str, s3_environment: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:  # fmt: skip
    for name, value in settings_for(database_url, clean_redis_url).items():
        monkeypatch.setenv(name, value)
    put(bucket, s3_environment, {f"a/{n:03}.png": n for n in range(IMAGES)})
    person(database, "owl", DeskRole.LEAD)
    app = desk_app(database, broker=broker.create_app(clean_redis_url))
    yield Desk(app, logged_in(app, "owl"), database_url, f"s3://{bucket}/a/")
    app.state.parts.scans.close()


def waiting(desk: Desk) -> int:
    """How many messages are in the queue of scans."""
    with desk.app.state.parts.broker.connection_for_write() as connection:
        return int(broker.work_queue(SCAN_QUEUE)(connection.default_channel).queue_declare(passive=True).message_count)


def test_a_scan_is_started_and_published(desk: Desk) -> None:
    of_other_tests = set(psutil.Process().children())
    scan = desk.start(name="by hand", explain="all", fake_from="0.7", record="changes", suffixes=".png .jpg")
    desk.wait(scan, "running")
    assert desk.scan(scan, "listed", "name", "record") == (IMAGES, "by hand", "changes")
    policy, listing = desk.scan(scan, "policy", "listing")
    assert (policy["explain"], policy["fake_from"], listing["sources"]) == ("all", 0.7, [desk.source])
    assert listing["rules"]["suffixes"] == [".png", ".jpg"]
    assert waiting(desk) == 3
    wait_for(lambda: not desk.processes.running(scan), 20)
    ours = set(psutil.Process().children()) - of_other_tests
    assert not [one for one in ours if one.status() == psutil.STATUS_ZOMBIE]


def test_a_form_that_is_sent_twice_starts_one_scan(desk: Desk) -> None:
    fields = {**desk.form(), "sources": desk.source}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: desk.send("/scans", **fields), range(4)))
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert query(desk.url, "SELECT count(*) FROM scans") == [(1,)]
    desk.wait(UUID(answers[0].headers["location"].rpartition("/")[2]), "running")
    assert waiting(desk) == 3


def test_a_form_that_is_changed_and_sent_again_says_so(desk: Desk) -> None:
    fields = {**desk.form(), "sources": desk.source}
    desk.send("/scans", **fields)
    answer = desk.send("/scans", **{**fields, "explain": "none"})
    assert answer.status_code == 422
    assert "already started another scan" in answer.text
    token = re.search(r'name="token" value="(\w+)"', answer.text)
    assert token
    assert token[1] != fields["token"]
    assert desk.send("/scans", **{**fields, "explain": "none", "token": token[1]}).status_code == 303


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sources": ""}, "Give 1 to 100 sources"),
        ({"sources": "/etc"}, "only s3://bucket/prefix can be scanned"),
        ({"sources": "-"}, "only s3://bucket/prefix can be scanned"),
        ({"sources": "s3://no-such-bucket-here/x/"}, "no-such-bucket-here"),
        ({"fake_from": "2"}, "Give a number that is not above 1."),
        ({"fake_from": "0.2", "real_to": "0.5"}, "up to which an image is real must not be above"),
        ({"max_tokens": "many"}, "Give a whole number, such as 500."),
        ({"explain": "some"}, "Choose one of these: flagged, all or none."),
        ({"record": "some"}, "Choose one of these: all or changes."),
        ({"min_bytes": "9", "max_bytes": "8"}, "The smallest size must not be above"),
        ({"max_failed_share": "-1"}, "Give a number that is not below 0."),
        ({"name": "a\0b"}, "a character that cannot be kept"),
    ],
)
def test_a_wrong_form_says_what_is_wrong_and_keeps_what_was_typed(
    desk: Desk, changes: dict[str, str], said: str
) -> None:
    answer = desk.send("/scans", **{**desk.form(), "sources": desk.source, "name": "kept <b>", **changes})
    assert answer.status_code == 422
    (wrong,) = re.findall(r'<strong class="wrong">(.*?)</strong>', answer.text)
    assert said in html.unescape(wrong)
    assert 'aria-invalid="true"' in answer.text
    assert "name" in changes or 'value="kept &lt;b&gt;"' in answer.text
    assert query(desk.url, "SELECT count(*) FROM scans") == [(0,)]


def test_a_scan_of_a_bucket_that_is_not_allowed_is_refused(desk: Desk) -> None:
    parts = desk.app.state.parts
    strict = desk_app(parts.database, broker=parts.broker, settings=settings(FAKESWEEP_ALLOWED_BUCKETS="ours"))
    lead = Desk(strict, logged_in(strict, "owl"), desk.url, desk.source)
    answer = lead.send("/scans", **{**lead.form(), "sources": lead.source})
    assert answer.status_code == 422
    assert "the bucket is not one of those that this server allows" in answer.text
    assert query(desk.url, "SELECT count(*) FROM scans") == [(0,)]


def test_a_scan_is_paused_resumed_and_cancelled(desk: Desk) -> None:
    scan = desk.start()
    desk.wait(scan, "running")
    assert "Pause this scan?" in desk.browser.get(f"/scans/{scan}/pause").text
    assert desk.act(scan, "pause").status_code == 303
    assert desk.scan(scan, "status", "note") == ("paused", "paused by owl")
    assert '>paused</span><span class="prose"> by owl</span>' in desk.browser.get(f"/scans/{scan}").text
    refused = desk.act(scan, "pause")
    assert (refused.status_code, "cannot be paused" in refused.text) == (409, True)
    wrong = desk.act(scan, "resume", max_failed_share="7")
    assert (wrong.status_code, desk.scan(scan, "status")) == (422, ("paused",))
    assert desk.act(scan, "resume", max_failed_share="0.9").status_code == 303
    assert desk.scan(scan, "status", "max_failed_share") == ("running", 0.9)
    assert desk.act(scan, "cancel").status_code == 303
    assert desk.scan(scan, "status") == ("cancelled",)
    assert desk.act(scan, "resume").status_code == 409
    assert f'href="/scans/{scan}/resume"' not in desk.browser.get(f"/scans/{scan}").text


def test_failed_images_are_published_again(desk: Desk) -> None:
    scan = desk.start()
    desk.wait(scan, "running")
    assert waiting(desk) == 3
    with transaction(desk.app.state.parts.database) as session:
        session.execute(text(_FAILED), {"scan": scan})
    assert desk.act(scan, "retry").status_code == 303
    assert "2 images are published again." in desk.browser.get(f"/scans/{scan}").text
    assert waiting(desk) == 4
    gone = desk_app(desk.app.state.parts.database, broker=broker.create_app("redis://:secret@127.0.0.1:9/0"))
    answer = Desk(gone, logged_in(gone, "owl"), desk.url, desk.source).act(scan, "retry")
    assert (answer.status_code, "secret" in answer.text) == (503, False)


def test_a_scan_whose_process_was_lost_continues_from_its_page(desk: Desk) -> None:
    desk.processes.close()  # as if the web process had been killed between the row and the first chunk
    scan = desk.start()
    assert desk.scan(scan, "status", "listed") == ("listing", 0)
    page = desk.browser.get(f"/scans/{scan}").text
    assert "loses nothing" in page
    assert f'href="/scans/{scan}/publish"' in page
    parts = desk.app.state.parts
    again = desk_app(parts.database, broker=parts.broker)
    lead = Desk(again, logged_in(again, "owl"), desk.url, desk.source)
    assert lead.act(scan, "publish").status_code == 303
    lead.wait(scan, "running")
    assert (lead.scan(scan, "listed"), waiting(lead)) == ((IMAGES,), 3)
    assert lead.act(scan, "publish").status_code == 409
    lead.processes.close()


def test_a_reviewer_or_a_form_without_token_changes_nothing(desk: Desk) -> None:
    scan = desk.start()
    person(desk.app.state.parts.database, "heron")
    heron = logged_in(desk.app, "heron")
    token = csrf_of(heron.get("/login").text)
    for path in ("/scans", f"/scans/{scan}/pause", f"/scans/{scan}/cancel"):
        assert heron.post(path, data={"csrf": token, "sources": desk.source}).status_code == 403
        assert desk.send(path, sources=desk.source).status_code == 403
    assert query(desk.url, "SELECT count(*), max(status) <> 'cancelled' FROM scans") == [(1, True)]
