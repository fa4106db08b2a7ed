"""What a decision stores, and what happens to a decision that comes too late or twice."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import pytest

from producers.reviews import Stated, disable_reviewer, review
from producers.web.desk import claims
from producers.web.desk.claims import Claimed
from producers.web.desk.deciding import SecondShare, Shown
from tests.integration.test_reviews import FAKE, Desk
from tests.integration.test_scans import Archive, png
from tests.reviewing import ALWAYS, NEVER, SCAN, ReviewDesk, sha256_of
from worker.database import Database
from worker.errors import ClaimLostError, GoneError, InactiveReviewerError, NotWaitingError, UsageError
from worker.tables import ReviewKind, Statement


@pytest.fixture
def desk(database: Database) -> ReviewDesk:
    desk = ReviewDesk(database)
    for name, score in (("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.65)):
        desk.flag(name, score)
    desk.alike("a", "b", "c", "d")
    return desk


def queue(desk: ReviewDesk) -> set[str]:
    return {row["sha256"] for row in desk.rows("SELECT sha256 FROM review_queue")}


def test_a_decision_is_stored_with_what_was_seen(desk: ReviewDesk) -> None:
    claimed = desk.claim("heron", "a")
    decided = desk.decide("heron", claimed, "real", reason_code="camera_original", note="a phone's\0 file")
    row = desk.row("SELECT * FROM reviews")
    assert (row["id"], row["sha256"], row["reviewer"], row["claim_id"]) == (
        decided.review_id, sha256_of("a"), "heron", claimed.id,
    )  # fmt: skip
    assert (row["statement"], row["reason_code"], row["note"]) == ("real", "camera_original", "a phone's file")
    assert (row["verdict"], row["kind"], decided.kind) == ("fake", "first", "first")
    assert queue(desk) == {sha256_of(name) for name in "bcd"}
    assert desk.rows("SELECT * FROM claims") == []


def test_a_repeated_request_changes_nothing_and_gets_the_same_answer(desk: ReviewDesk) -> None:
    claimed = desk.claim("heron", "a")
    also = (sha256_of("b"), sha256_of("b"), "0" * 64)
    first = desk.decide("heron", claimed, chance=ALWAYS, also=also)
    assert first == desk.decide("heron", claimed, chance=ALWAYS, also=also)
    assert first == desk.decide("heron", claimed, "real", chance=ALWAYS, also=also), (
        "the answer is what was stored, not what is asked now"
    )
    assert (first.second_look, first.also, first.left_out) == (True, (sha256_of("b"),), ("0" * 64,))
    assert desk.one("SELECT count(*) FROM reviews") == 2
    with pytest.raises(ClaimLostError):
        desk.decide("ibis", claimed)


def test_equal_requests_at_the_same_time_are_stored_once(desk: ReviewDesk) -> None:
    claimed = desk.claim("heron", "a")
    with ThreadPoolExecutor(8) as pool:
        decided = list(pool.map(lambda _: desk.decide("heron", claimed, note="x"), range(8)))
    assert len(set(decided)) == 1
    assert desk.one("SELECT count(*) FROM reviews") == 1


def test_a_reviewer_who_lost_a_claim_learns_who_has_it_or_who_decided(desk: ReviewDesk) -> None:
    lost = desk.claim("heron", "a", claim_s=0.1)
    time.sleep(0.2)
    taken = desk.claim("ibis", "a")
    with pytest.raises(ClaimLostError, match="ibis works on it now") as told:
        desk.decide("heron", lost)
    assert (told.value.holder, told.value.decided_by) == ("ibis", None)
    desk.decide("ibis", taken)
    with pytest.raises(ClaimLostError, match="ibis has decided it") as told:
        desk.decide("heron", lost)
    assert (told.value.holder, told.value.decided_by) == (None, "ibis")
    desk.give_back(other := desk.claim("heron", "b"))
    with pytest.raises(ClaimLostError, match="claim the content again"):
        desk.decide("heron", other)
    assert desk.one("SELECT count(*) FROM reviews") == 1


def test_a_claim_that_ran_out_still_counts_if_nobody_else_has_claimed(desk: ReviewDesk) -> None:
    claimed = desk.claim("heron", "a", claim_s=0.1)
    time.sleep(0.2)
    assert desk.decide("heron", claimed).statement == "fake"


def test_a_content_that_left_the_queue_is_refused(desk: ReviewDesk) -> None:
    claimed, other = desk.claim("heron", "a"), desk.claim("heron", "b")
    review(desk.database, Stated(SCAN, "s3://b/a", Statement.REAL, "crane", sha256=sha256_of("a")))
    with pytest.raises(GoneError, match="crane decided this content already"):
        desk.decide("heron", claimed)
    with desk.database.begin() as connection:
        connection.exec_driver_sql(f"UPDATE contents SET superseded = true WHERE sha256 = '{other.sha256}'")
    with pytest.raises(GoneError, match="no detector calls this content fake or uncertain any more"):
        desk.decide("heron", other)
    assert desk.one("SELECT count(*) FROM reviews") == 1


def test_near_duplicates_are_decided_too_unless_somebody_works_on_them(desk: ReviewDesk) -> None:
    claimed = desk.claim("heron", "a")
    desk.claim("ibis", "c")
    desk.claim("heron", "d")
    also = tuple(sha256_of(name) for name in ("b", "c", "d", "a"))
    decided = desk.decide("heron", claimed, "real", note="a frame of the same film", also=also)
    assert (decided.also, decided.left_out) == ((sha256_of("b"), sha256_of("d")), (sha256_of("c"),))
    notes = {row["sha256"]: row["note"] for row in desk.rows("SELECT sha256, note FROM reviews")}
    followed = f"decided with its near duplicate {sha256_of('a')}: a frame of the same film"
    assert notes == dict.fromkeys(decided.also, followed) | {sha256_of("a"): "a frame of the same film"}
    assert queue(desk) == {sha256_of("c")}
    assert [row["reviewer"] for row in desk.rows("SELECT reviewer FROM claims")] == ["ibis"]


def test_a_content_that_is_no_near_duplicate_is_not_decided_too(desk: ReviewDesk) -> None:
    desk.flag("another")
    also = (sha256_of("another"), sha256_of("b"))
    decided = desk.decide("heron", desk.claim("heron", "a"), also=also)
    assert (decided.also, decided.left_out) == (also[1:], also[:1])
    assert sha256_of("another") in queue(desk)


@pytest.mark.parametrize("kind", [None, ReviewKind.APPEAL])
def test_a_review_through_the_api_ends_a_second_look_too(desk: ReviewDesk, kind: ReviewKind | None) -> None:
    desk.say("heron", "a", chance=ALWAYS)
    stated = Stated(SCAN, "s3://b/a", Statement.FAKE, "heron", sha256=sha256_of("a"))
    review(desk.database, stated)
    assert desk.one("SELECT count(*) FROM second_looks") == 1, "the first reviewer gives no second look"
    review(desk.database, replace(stated, reviewer="heron" if kind else "ibis", kind=kind))
    assert desk.one("SELECT count(*) FROM second_looks") == 0
    with pytest.raises(NotWaitingError):
        desk.claim("crane", "a")


def test_all_places_and_detectors_of_a_content_leave_the_queue(desk: ReviewDesk) -> None:
    archive = Desk(Archive(desk.database))
    archive.archive.images |= {f"s3://b/place {number}": png(FAKE) for number in range(3)}
    archive.archive.sweep()
    archive.archive.sweep(archive.archive.parts(name="another"))
    (content,) = desk.rows("SELECT sha256 FROM review_queue WHERE uri LIKE '%place%'")
    assert desk.one("SELECT count(*) FROM contents WHERE sha256 = :sha256", **content) == 2
    claimed = claims.claim(desk.database, desk.people["heron"], content["sha256"], 60)
    assert isinstance(claimed, Claimed)
    newest = desk.row("SELECT scan_id, uri, verdict_id FROM review_queue WHERE sha256 = :sha256", **content)
    desk.decide("heron", claimed, shown=Shown(*newest.values()))
    assert content["sha256"] not in queue(desk)
    assert desk.rows("SELECT DISTINCT statement FROM contents WHERE sha256 = :sha256", **content) == [
        {"statement": "fake"}
    ]


def test_a_share_of_contents_gets_a_second_look(desk: ReviewDesk) -> None:
    share = SecondShare(b"k" * 32, 0.1)
    drawn = [share.draws(f"{number:064x}") for number in range(5000)]
    assert 400 < sum(drawn) < 600
    assert drawn == [SecondShare(b"k" * 32, 0.1).draws(f"{number:064x}") for number in range(5000)]
    assert drawn != [SecondShare(b"l" * 32, 0.1).draws(f"{number:064x}") for number in range(5000)]
    assert not any(SecondShare(b"k" * 32, 0.0).draws(f"{number:064x}") for number in range(5000))
    assert desk.say("heron", "a", chance=NEVER).second_look is False
    assert desk.rows("SELECT sha256 FROM second_looks") == []
    assert desk.say("heron", "b", chance=ALWAYS).second_look is True
    assert desk.say("ibis", "b", chance=ALWAYS).second_look is False, "only a first review draws a second look"
    assert desk.rows("SELECT sha256 FROM second_looks") == []


def test_reason_codes_that_are_unknown_or_of_another_statement_are_refused(desk: ReviewDesk) -> None:
    claimed = desk.claim("heron", "a")
    for code in ("camera_original", "nonsense"):
        with pytest.raises(UsageError, match="does not fit “fake”"):
            desk.decide("heron", claimed, reason_code=code)
    with pytest.raises(UsageError, match="a note has at most 10000 characters"):
        desk.decide("heron", claimed, note="x" * 10_001)
    assert desk.decide("heron", claimed, reason_code="texture").statement == "fake"


def test_a_disabled_reviewer_cannot_decide(desk: ReviewDesk) -> None:
    claimed = desk.claim("heron", "a")
    disable_reviewer(desk.database, "heron")
    with pytest.raises(InactiveReviewerError):
        desk.decide("heron", claimed)
    assert desk.one("SELECT count(*) FROM claims") == 1, "nothing was changed"


def test_a_claim_counts_only_for_its_own_content(desk: ReviewDesk) -> None:
    claimed = desk.claim("heron", "a")
    with pytest.raises(ClaimLostError):
        desk.decide("heron", Claimed(claimed.id, sha256_of("b"), claimed.until))
    with pytest.raises(ClaimLostError):
        desk.decide("heron", Claimed(UUID(int=5), sha256_of("a"), claimed.until))
    with pytest.raises(NotWaitingError):
        desk.claim("heron", "never seen")
