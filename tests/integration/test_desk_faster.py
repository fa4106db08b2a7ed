"""Others are faster each time: what was decided or skipped is stored, and the queue says why nothing comes next."""

import re
from collections.abc import Iterator
from html import unescape

import pytest
from sqlalchemy import text

from producers.web.desk.claims import _CLASS
from tests.desk import csrf_of, desk_app, logged_in
from tests.reviewing import ReviewDesk, sha256_of
from worker.database import Database

CONTENTS = "abc"


@pytest.fixture
def desk(database: Database) -> Iterator[ReviewDesk]:
    """Somebody claims b and c all the time, and never gets so far."""
    desk = ReviewDesk(database)
    for name in CONTENTS:
        desk.flag(name)
    with database.begin() as connection:
        for name in CONTENTS[1:]:
            lock = text("SELECT pg_advisory_xact_lock(:desk, hashtext(:sha256))")
            connection.execute(lock, {"desk": _CLASS, "sha256": sha256_of(name)})
        yield desk


@pytest.mark.parametrize("act", ["decide", "skip"])
def test_what_was_done_is_stored(desk: ReviewDesk, act: str) -> None:
    first = sha256_of("a")
    heron = logged_in(desk_app(desk.database), "heron")
    token = csrf_of(heron.get("/queue").text)
    assert heron.post("/next", data={"csrf": token}).headers["location"] == f"/items/{first}"
    form = heron.get(f"/items/{first}").text
    fields = {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)}
    answer = heron.post(f"/items/{first}/{act}", data={**fields, "statement": "fake"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
    assert "Others were faster. Try again." in heron.get("/queue").text
    count = "SELECT count(*) FROM {} WHERE sha256 = :sha256"
    with desk.database.begin() as connection:
        reviews, skips = (
            connection.execute(text(count.format(one)), {"sha256": first}).scalar() for one in ("reviews", "skips")
        )
    assert (reviews, skips) == ((1, 0) if act == "decide" else (0, 1))
