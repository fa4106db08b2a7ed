"""Others are always faster: a decision or a skip is still stored, and the queue says why no item comes next."""

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
    """A desk where somebody is always about to claim b and c."""
    desk = ReviewDesk(database)
    for name in CONTENTS:
        desk.flag(name)
    with database.begin() as connection:
        for name in CONTENTS[1:]:
            lock = text("SELECT pg_advisory_xact_lock(:desk, hashtext(:sha256))")
            connection.execute(lock, {"desk": _CLASS, "sha256": sha256_of(name)})
        yield desk


@pytest.mark.parametrize("act", ["decide", "skip"])
def test_a_decision_or_skip_is_stored_even_if_no_item_comes_next(desk: ReviewDesk, act: str) -> None:
    first = sha256_of("a")
    heron = logged_in(desk_app(desk.database), "heron")
    token = csrf_of(heron.get("/queue").text)
    assert heron.post("/next", data={"csrf": token}).headers["location"] == f"/items/{first}"
    form = heron.get(f"/items/{first}").text
    fields = {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)}
    answer = heron.post(f"/items/{first}/{act}", data={**fields, "statement": "fake"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
    assert "Other reviewers took these items first. Try again." in heron.get("/queue").text
    count = "SELECT count(*) FROM {} WHERE sha256 = :sha256"
    with desk.database.begin() as connection:
        reviews, skips = (
            connection.execute(text(count.format(one)), {"sha256": first}).scalar() for one in ("reviews", "skips")
        )
    assert (reviews, skips) == ((1, 0) if act == "decide" else (0, 1))
