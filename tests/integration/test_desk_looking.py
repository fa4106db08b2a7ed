"""Who else has an item open: pages and heartbeats record it for a while."""

from collections.abc import Sequence

import pytest
from sqlalchemy import text

from producers.web.desk.looking import MISSED, look, told
from tests.desk import csrf_of, desk_app, logged_in
from tests.reviewing import ReviewDesk
from worker.database import Database

EVERY_S = 60.0


@pytest.fixture
def desk(database: Database) -> ReviewDesk:
    return ReviewDesk(database)


def looks(desk: ReviewDesk, who: str, sha256: str, *, opened: bool = False) -> Sequence[str]:
    return look(desk.database, desk.people[who], sha256, EVERY_S, opened=opened)


def test_each_person_sees_the_others_and_not_themselves(desk: ReviewDesk) -> None:
    a, b = desk.flag("a"), desk.flag("b")
    assert looks(desk, "heron", a) == []
    assert looks(desk, "ibis", b) == []
    assert looks(desk, "ibis", a) == ["heron"]
    assert looks(desk, "crane", a) == ["heron", "ibis"]
    assert looks(desk, "heron", a) == ["crane", "ibis"]
    assert looks(desk, "heron", b) == ["ibis"]


def test_a_look_ends_when_its_page_sends_no_heartbeat(desk: ReviewDesk) -> None:
    a = desk.flag("a")
    looks(desk, "heron", a)
    with desk.database.begin() as connection:
        left = connection.execute(text("SELECT extract(epoch FROM until - now()) FROM looks")).scalar_one()
        assert EVERY_S * MISSED - 5 < left <= EVERY_S * MISSED
        connection.execute(text("UPDATE looks SET until = now()"))
    assert looks(desk, "ibis", a) == []


def test_opening_another_item_leaves_the_first_one(desk: ReviewDesk) -> None:
    a, b, c = (desk.flag(name) for name in "abc")
    looks(desk, "heron", a, opened=True)
    looks(desk, "heron", b, opened=True)
    assert looks(desk, "ibis", a) == []
    looks(desk, "heron", a)  # another tab
    looks(desk, "heron", c)
    assert looks(desk, "ibis", a) == ["heron"]
    with desk.database.begin() as connection:
        connection.execute(text("UPDATE looks SET until = now() WHERE reviewer = 'heron'"))
    looks(desk, "heron", c)
    with desk.database.begin() as connection:
        assert connection.execute(text("SELECT sha256 FROM looks WHERE reviewer = 'heron'")).scalars().all() == [c]


def test_pages_and_heartbeats_name_the_others(desk: ReviewDesk) -> None:
    a = desk.flag("a")
    app = desk_app(desk.database)
    heron, ibis = logged_in(app, "heron"), logged_in(app, "ibis")
    assert "item open too" not in heron.get(f"/items/{a}").text
    assert "heron has this item open too." in ibis.get(f"/items/{a}").text
    shown = heron.get(f"/items/{a}").text
    assert "ibis has this item open too." in shown
    answer = heron.post(f"/items/{a}/look", data={"csrf": csrf_of(shown)})
    assert answer.json() == {"others": "ibis has this item open too."}
    assert heron.post(f"/items/{a}/look").status_code == 403


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ([], ""),
        (["owl"], "owl has this item open too."),
        (["owl", "wren"], "owl and wren have this item open too."),
        (list("abcde"), "a, b, c, d and e have this item open too."),
        (list("abcdefg"), "a, b, c, d, e and others have this item open too."),
    ],
)
def test_the_sentence_names_five_people_at_most(others: Sequence[str], sentence: str) -> None:
    assert told(others) == sentence
