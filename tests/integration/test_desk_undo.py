"""Taking decisions back: everything is as it was before, and as a query over the raw rows says."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from producers.reviews import Stated, review
from producers.web.desk import claims
from producers.web.desk.claims import Claimed
from producers.web.desk.item import item
from producers.web.desk.undo import Undone, newest_decision, undo_last
from tests.reviewing import ALWAYS, NEVER, SCAN, ReviewDesk, sha256_of
from worker.database import Database
from worker.errors import NotWaitingError
from worker.tables import Statement

KEPT = {
    "contents": "SELECT sha256, detector_id, statement, reviewed_at FROM contents ORDER BY 1, 2",
    "content_reviews": "SELECT * FROM content_reviews ORDER BY sha256",
    "reviewed_verdicts": "SELECT * FROM reviewed_verdicts ORDER BY sha256, detector_id",
    "review_queue": "SELECT sha256, reviews, disputed FROM review_queue ORDER BY sha256",
    "second_looks": "SELECT sha256, first_reviewer FROM second_looks ORDER BY sha256",
    "detector_quality": "SELECT * FROM detector_quality",
}
"""All that triggers store about reviews, and what is derived from it."""

# The same from raw rows. This repeats the rule, which test_review_rule tests.
_LEFT = "reviews r WHERE NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id)"
_NEWEST_WORDS = f"""
SELECT DISTINCT ON (sha256, reviewer) * FROM {_LEFT} ORDER BY sha256, reviewer, created_at DESC, id DESC
"""
EXPECTED = f"""
WITH words AS ({_NEWEST_WORDS}), told AS (
    SELECT r.sha256, count(*) AS reviews, count(*) FILTER (WHERE kind = 'appeal') AS appeals,
           min(created_at) AS first_reviewed_at, max(created_at) AS reviewed_at,
           (array_agg(reviewer ORDER BY created_at DESC, id DESC))[1] AS last_reviewer,
           (array_agg(statement ORDER BY created_at DESC, id DESC) FILTER (WHERE kind = 'appeal'))[1] AS appeal
    FROM {_LEFT} GROUP BY r.sha256
), says AS (
    SELECT sha256, count(*) FILTER (WHERE statement = 'fake') AS f, count(*) FILTER (WHERE statement = 'real') AS r,
           count(*) FILTER (WHERE statement = 'cannot_tell') AS c FROM words GROUP BY sha256
)
SELECT sha256, coalesce(appeal, CASE WHEN f > r THEN 'fake' WHEN r > f THEN 'real' WHEN f = 0 THEN 'cannot_tell' END)
       AS statement, appeal IS NULL AND f = r AND f > 0 AS disputed, f AS says_fake, r AS says_real,
       c AS says_cannot_tell, reviews, appeals, first_reviewed_at, reviewed_at, last_reviewer
FROM told JOIN says USING (sha256) ORDER BY sha256
"""
EXPECTED_VERDICTS = f"""
SELECT DISTINCT ON (sha256, detector_id) sha256, detector_id, verdict, created_at AS first_reviewed_at,
       date_trunc('week', created_at AT TIME ZONE 'UTC')::date AS week
FROM {_LEFT} ORDER BY sha256, detector_id, created_at, id
"""


@pytest.fixture
def desk(database: Database) -> ReviewDesk:
    return ReviewDesk(database)


def kept(desk: ReviewDesk) -> dict[str, Sequence[dict[str, Any]]]:
    return {name: desk.rows(query) for name, query in KEPT.items()}


def check(desk: ReviewDesk) -> None:
    """Checks that what triggers store is what the raw rows say."""
    counted = desk.rows(EXPECTED)
    assert desk.rows(KEPT["content_reviews"]) == counted
    stands = {row["sha256"]: row for row in counted}
    for row in desk.rows(KEPT["contents"]):
        expected = stands.get(row["sha256"], {"statement": None, "reviewed_at": None})
        assert (row["statement"], row["reviewed_at"]) == (expected["statement"], expected["reviewed_at"])
    verdicts = [row | {"statement": stands[row["sha256"]]["statement"]} for row in desk.rows(EXPECTED_VERDICTS)]
    assert desk.rows(KEPT["reviewed_verdicts"]) == verdicts
    queue = {row["sha256"]: (row["reviews"], row["disputed"]) for row in desk.rows(KEPT["review_queue"])}
    assert queue == {
        row["sha256"]: (stands.get(row["sha256"], {}).get("reviews", 0), row["sha256"] in stands)
        for row in desk.rows("SELECT DISTINCT sha256 FROM contents")
        if stands.get(row["sha256"], {}).get("statement") is None
    }


def undo(desk: ReviewDesk, name: str, **options: Any) -> Undone | None:
    return undo_last(desk.database, desk.people[name], **{"claim_s": 600, **options})


def test_undoing_restores_everything_and_gives_the_content_back(desk: ReviewDesk) -> None:
    for name in "abc":
        desk.flag(name)
    desk.alike("a", "b")
    before = kept(desk)
    desk.decide("heron", desk.claim("heron", "a"), chance=ALWAYS, also=(sha256_of("b"),), note="hm")
    middle = kept(desk)
    desk.say("heron", "c", "real")
    undone = undo(desk, "heron")
    assert undone is not None
    assert (undone.sha256, undone.statement, undone.also) == (sha256_of("c"), "real", ())
    assert kept(desk) == middle
    undone = undo(desk, "heron")
    assert undone is not None
    assert (undone.sha256, undone.also, undone.note) == (sha256_of("a"), (sha256_of("b"),), "hm")
    assert kept(desk) == before
    assert undone.claim is not None
    assert undo(desk, "heron") is None
    assert desk.decide("heron", undone.claim, "real").kind == "first"
    assert desk.one("SELECT count(*) FROM withdrawals") == 3
    check(desk)


def test_a_second_look_is_taken_back_and_given_again(desk: ReviewDesk) -> None:
    desk.flag("a")
    desk.say("heron", "a", chance=ALWAYS)
    before = kept(desk)
    desk.say("ibis", "a", "real")
    assert desk.one("SELECT disputed FROM review_queue") is True
    undone = undo(desk, "ibis")
    assert undone is not None
    assert undone.claim is not None
    assert kept(desk) == before
    assert desk.decide("ibis", undone.claim).kind == "second"
    assert desk.rows("SELECT FROM review_queue") == []
    check(desk)


def test_a_first_review_can_be_taken_back_during_the_second_look(desk: ReviewDesk) -> None:
    desk.flag("a")
    desk.say("heron", "a", chance=ALWAYS)
    taken = desk.claim("ibis", "a")
    undone = undo(desk, "heron")
    assert undone is not None
    assert undone.claim is None, "somebody is at work on the second look"
    assert desk.decide("ibis", taken).kind == "first", "a withdrawn review is not the first one"
    check(desk)
    assert desk.rows(KEPT["second_looks"]) == []
    undone = undo(desk, "ibis")
    assert undone is not None
    assert undone.claim is not None
    check(desk)


def test_an_appeal_can_be_taken_back(desk: ReviewDesk) -> None:
    desk.flag("a")
    desk.say("heron", "a", chance=ALWAYS)
    desk.say("ibis", "a", "real")
    before = kept(desk)
    desk.say("lead", "a", "real")
    assert undo(desk, "lead") is not None
    assert kept(desk) == before
    with pytest.raises(NotWaitingError):
        desk.claim("crane", "a")


def test_an_undo_asks_for_no_second_look_that_was_not_wanted_before(desk: ReviewDesk) -> None:
    for name in "ab":
        desk.flag(name)
    desk.say("heron", "a", chance=ALWAYS)
    desk.say("ibis", "a", "real")
    desk.say("lead", "a", "real")
    assert undo(desk, "ibis") is not None
    assert desk.rows(KEPT["second_looks"]) == [], "a lead has decided"
    desk.say("heron", "b")
    review(desk.database, Stated(SCAN, "s3://b/b", Statement.REAL, "crane", sha256=sha256_of("b")))
    assert undo(desk, "crane") is not None
    assert desk.rows(KEPT["second_looks"]) == [], "no second look at this content was drawn"
    check(desk)


def test_the_second_reviewer_sees_no_review_if_the_first_is_taken_back(desk: ReviewDesk) -> None:
    desk.flag("a")
    desk.say("heron", "a", chance=ALWAYS)
    taken = desk.claim("ibis", "a")
    undo(desk, "heron")
    shown = item(desk.database, desk.people["ibis"], taken.sha256)
    assert shown is not None
    assert (shown.reviews_hidden, shown.reviews) == (True, [])
    assert desk.decide("ibis", taken).kind == "first"
    assert desk.rows(KEPT["second_looks"]) == []
    desk.flag("b")
    desk.say("heron", "b", chance=ALWAYS)
    assert undo(desk, "heron") is not None
    assert desk.rows(KEPT["second_looks"]) == [], "nobody was at work on it"


def test_a_repeated_undo_takes_nothing_else_back(desk: ReviewDesk) -> None:
    for name in "abc":
        desk.flag(name)
    desk.alike("b", "c")
    assert newest_decision(desk.database, desk.people["heron"]) is None
    first = desk.say("heron", "a")
    second = desk.decide("heron", desk.claim("heron", "b"), also=(sha256_of("c"),))
    newest = newest_decision(desk.database, desk.people["heron"])
    assert newest is not None
    assert undo(desk, "ibis", newest=newest) is None, "it is another reviewer's"
    with ThreadPoolExecutor(4) as pool:
        undone = list(pool.map(lambda _: undo(desk, "heron", newest=newest), range(4)))
    assert {one and (one.sha256, one.also, one.claim and one.claim.id) for one in undone} == {
        (second.sha256, second.also, undone[0] and undone[0].claim and undone[0].claim.id)
    }
    assert desk.one("SELECT count(*) FROM withdrawals") == 2
    assert newest_decision(desk.database, desk.people["heron"]) == first.review_id


def test_old_decisions_cannot_be_taken_back(desk: ReviewDesk) -> None:
    desk.flag("a")
    desk.say("heron", "a")
    assert undo(desk, "heron", within=timedelta(0)) is None
    assert undo(desk, "ibis") is None
    assert undo(desk, "heron") is not None


def test_a_review_from_outside_the_desk_can_be_taken_back_too(desk: ReviewDesk) -> None:
    desk.flag("a")
    review(desk.database, Stated(SCAN, "s3://b/a", Statement.REAL, "heron", sha256=sha256_of("a")))
    undone = undo(desk, "heron")
    assert undone is not None
    assert (undone.statement, undone.claim is not None) == ("real", True)
    check(desk)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("INSERT INTO withdrawals (review_id, reviewer) VALUES (1, 'ibis')", "review 1 is not one of ibis"),
        ("INSERT INTO withdrawals (review_id, reviewer) VALUES (9, 'ibis')", "there is no review 9"),
        ("INSERT INTO withdrawals (review_id, reviewer) VALUES (2, 'heron')", "duplicate key"),
        ("UPDATE withdrawals SET reviewer = 'ibis'", "append-only"),
        ("DELETE FROM withdrawals", "append-only"),
        ("TRUNCATE withdrawals", "append-only"),
    ],
)
def test_the_database_refuses_other_withdrawals(desk: ReviewDesk, statement: str, said: str) -> None:
    for name in "ab":
        desk.flag(name)
        desk.say("heron", name)
    undo(desk, "heron")
    with pytest.raises(DBAPIError, match=said), desk.database.begin() as connection:
        connection.execute(text(statement))


class Step(NamedTuple):
    """What somebody does with a content."""

    who: str
    what: str
    content: int
    drawn: bool
    also: bool


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(("heron", "ibis", "crane", "lead")),
        st.sampled_from(("fake", "fake", "real", "cannot_tell", "undo", "undo", "elsewhere")),
        st.integers(0, 2),
        st.booleans(),
        st.booleans(),
    ),
    min_size=2,
    max_size=14,
)
SECOND_TO_GIVE = "SELECT FROM second_looks l JOIN contents c USING (sha256) WHERE c.statement IS NOT NULL"
_FRESH = (
    "contents",
    "content_reviews",
    "reviewed_verdicts",
    "second_looks",
    "claims",
    "skips",
    "withdrawals",
    "reviews",
)


@given(steps=STEPS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_history_what_is_stored_is_what_raw_rows_say(desk: ReviewDesk, steps: list[Step]) -> None:
    with desk.database.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # some of the tables are append-only
        for table in _FRESH:
            connection.execute(text(f"DELETE FROM {table}"))
    for name in "abc":
        desk.flag(name)
    desk.alike("a", "b", "c")
    for step in steps:
        do(desk, step)
        check(desk)
    while any(undo(desk, name) for name in desk.people):
        check(desk)
    assert not any(desk.rows(KEPT[name]) for name in ("content_reviews", "reviewed_verdicts"))
    assert desk.rows(SECOND_TO_GIVE) == [], "a second look that had begun may be left, but nobody is asked for it"
    assert desk.one("SELECT count(*) FROM review_queue") == 3


def do(desk: ReviewDesk, step: Step) -> None:
    """Takes the step, if this person may."""
    name = "abc"[step.content]
    if step.what == "undo":
        undo(desk, step.who)
    elif step.what == "elsewhere":
        statement = Statement.REAL if step.drawn else Statement.FAKE
        review(desk.database, Stated(SCAN, f"s3://b/{name}", statement, step.who, sha256=sha256_of(name)))
    else:
        try:
            claimed = claims.claim(desk.database, desk.people[step.who], sha256_of(name), 600)
        except NotWaitingError:
            return
        if isinstance(claimed, Claimed):
            also = tuple(map(sha256_of, "abc")) if step.also else ()
            try:
                desk.decide(step.who, claimed, step.what, ALWAYS if step.drawn else NEVER, also=also)
            finally:
                desk.give_back(claimed)
