"""The second reviewer cannot see what the first one said: on no page, and in no answer of the API."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from tests.api import mounted, program, token_for
from tests.desk import desk_app, logged_in, settings
from tests.reviewing import ALWAYS, NEVER, ReviewDesk, sha256_of
from worker.database import Database
from worker.tables import DeskRole, Scope

WORD, NOTE, CODE = "cannot tell", "zz-the-note-zz", "zz_the_code"
SAID = (WORD, "cannot_tell", NOTE, CODE)
_HASHES = """
INSERT INTO content_hashes (sha256, pdq, quality, in_question)
SELECT sha256, (repeat('1', 256))::bit(256), 100, true FROM contents
"""


@pytest.fixture
def desk(database: Database) -> ReviewDesk:
    """`a` and its near duplicate `b` need a second look. `c` needs a first one."""
    made = ReviewDesk(database)
    for name in ("a", "b", "c"):
        made.flag(name)
    with database.begin() as connection:
        connection.execute(text(_HASHES))
    for name in ("a", "b"):
        made.decide("heron", made.claim("heron", name), "cannot_tell", ALWAYS, note=NOTE)
    return made


def pages(client: TestClient) -> dict[str, str]:
    found = {}
    for path in ("/queue", *(f"/items/{sha256_of(name)}" for name in ("a", "b", "c"))):
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        main = answer.text.partition("<main")[2].replace('value="cannot_tell" data-key="c">Cannot tell', "")
        # The reason codes of the form name statements too.
        found[path] = main.partition('<select id="reason"')[0] + main.partition("</select>")[2]
    return found


def reveals(pages: dict[str, str]) -> list[str]:
    return [path for path, page in pages.items() if any(word in page for word in SAID)]


@pytest.mark.parametrize("role", list(DeskRole))
def test_no_page_shows_what_the_first_reviewer_said(desk: ReviewDesk, role: DeskRole) -> None:
    desk.person("ibis", role)
    app = desk_app(desk.database, settings=settings(second_share=1.0))
    ibis = logged_in(app, "ibis")
    assert "second look" in ibis.get("/queue").text
    assert reveals(pages(ibis)) == []
    assert f"/items/{sha256_of('c')}" in reveals(pages(logged_in(app, "heron"))), (
        "the words are found where they may be shown"
    )
    if role is not DeskRole.REVIEWER:
        assert not any(word in ibis.get("/overview").text for word in SAID)
    desk.say("ibis", "b", "real", NEVER)
    assert f"/items/{sha256_of('b')}" in reveals(pages(ibis))


def test_the_api_does_not_show_it_to_the_second_reviewers_token(desk: ReviewDesk) -> None:
    app = mounted(desk.database)
    scopes = (Scope.READ, Scope.REVIEW)
    ibis, heron = (program(app, token_for(desk.database, *scopes, reviewer=name)) for name in ("ibis", "heron"))
    place = f"/contents/{sha256_of('a')}"
    found = ibis.get(place).json()
    assert (found["second_look"], found["reviews"], found["standing"]["statement"]) == (True, [], None)
    assert found["standing"]["says_cannot_tell"] == 0
    assert ibis.get("/reviews").json()["items"] == []
    for client in (heron, program(app, token_for(desk.database, Scope.READ))):
        told = client.get(place).json()
        assert (told["second_look"], told["standing"]["statement"], len(told["reviews"])) == (False, "cannot_tell", 1)
        assert len(client.get("/reviews").json()["items"]) == 2
    desk.say("ibis", "a", "real", NEVER)
    assert [one["reviewer"] for one in ibis.get(place).json()["reviews"]] == ["ibis", "heron"]
    assert {one["sha256"] for one in ibis.get("/reviews").json()["items"]} == {sha256_of("a")}
