"""Who gets which content, and that nobody else gets it at the same time."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from producers.reviews import disable_reviewer
from producers.web.desk import claims
from producers.web.desk.claims import Held
from producers.web.desk.queue import Filters
from tests.reviewing import ALWAYS, OTHER_SCAN, ReviewDesk, sha256_of
from worker.database import Database
from worker.errors import NotWaitingError, TransientError
from worker.tables import DeskRole, Verdict


@pytest.fixture
def desk(database: Database) -> ReviewDesk:
    return ReviewDesk(database)


def given_out(desk: ReviewDesk, name: str, filters: Filters | None = None) -> list[str]:
    """All contents that a person gets, in their order. None is decided."""
    found = []
    while (claimed := desk.next(name, filters or Filters())) is not None and claimed.sha256 not in found:
        found.append(claimed.sha256)
        claims.skip(desk.database, desk.people[name], claimed.sha256)
    desk.give_back(claimed)
    return found


def run_out(desk: ReviewDesk) -> None:
    """Ends all claims, as if their time had passed."""
    with desk.database.begin() as connection:
        connection.execute(text("UPDATE claims SET until = now()"))


def names(*contents: str) -> list[str]:
    return [sha256_of(one) for one in contents]


def test_the_most_severe_and_then_the_oldest_comes_first(desk: ReviewDesk) -> None:
    desk.flag("none", None)
    desk.flag("young", 0.9, at=1)
    desk.flag("old", 0.9, at=-1)
    desk.flag("low", 0.5)
    desk.flag("high", 0.95)
    assert given_out(desk, "heron") == names("high", "old", "young", "low", "none")


def test_only_the_holder_of_a_claim_gets_its_content(desk: ReviewDesk) -> None:
    desk.flag("a", 0.9)
    desk.flag("b", 0.8)
    first, second = desk.next("heron"), desk.next("ibis")
    assert first is not None
    assert second is not None
    assert [first.sha256, second.sha256] == names("a", "b")
    again = desk.next("heron")
    assert again is not None
    assert (again.id, again.sha256) == (first.id, first.sha256)
    assert again.until >= first.until
    assert desk.next("crane") is None
    held = claims.claim(desk.database, desk.people["crane"], first.sha256, 600)
    assert held == Held("heron", again.until) == claims.holder(desk.database, first.sha256)
    claims.skip(desk.database, desk.people["ibis"], first.sha256)
    assert claims.holder(desk.database, first.sha256) == held, "only its holder can give it back"
    claims.skip(desk.database, desk.people["heron"], first.sha256)
    assert claims.holder(desk.database, first.sha256) is None
    assert desk.claim("crane", "a").id != first.id


def test_a_claim_runs_out_unless_it_is_kept(desk: ReviewDesk) -> None:
    desk.flag("a")
    heron = desk.people["heron"]
    first = desk.next("heron", claim_s=60)
    assert first is not None
    until = claims.keep(desk.database, heron, first.id, 120)
    assert until is not None
    assert until - first.until >= timedelta(seconds=60)
    assert claims.keep(desk.database, desk.people["ibis"], first.id, 60) is None
    assert desk.next("ibis") is None
    run_out(desk)
    assert claims.holder(desk.database, first.sha256) is None
    assert claims.keep(desk.database, heron, first.id, 60) is not None, "nobody else has claimed it"
    run_out(desk)
    assert desk.claim("ibis", "a").id != first.id
    assert claims.keep(desk.database, heron, first.id, 60) is None
    assert desk.next("heron") is None


def test_a_skipped_content_comes_last_but_not_for_others(desk: ReviewDesk) -> None:
    desk.flag("a", 0.9)
    desk.flag("b", 0.8)
    for content, following in (("a", "b"), ("b", "a"), ("a", "b")):
        claims.skip(desk.database, desk.people["heron"], sha256_of(content))
        claimed = desk.next("heron")
        assert claimed is not None
        assert claimed.sha256 == sha256_of(following), "the one that was skipped first comes first"
    claimed = desk.next("ibis")
    assert claimed is not None
    assert claimed.sha256 == sha256_of("a")


def test_a_second_look_comes_first_but_never_to_the_first_reviewer(desk: ReviewDesk) -> None:
    for name, score in (("a", 0.7), ("b", 0.9)):
        desk.flag(name, score)
    assert desk.say("heron", "a", chance=ALWAYS).second_look
    assert given_out(desk, "heron") == names("b")
    assert given_out(desk, "ibis") == names("a", "b")
    with pytest.raises(NotWaitingError, match="you decided this content already"):
        desk.claim("heron", "a")
    desk.say("ibis", "a")
    assert given_out(desk, "crane") == names("b")
    with pytest.raises(NotWaitingError, match="ibis decided this content already"):
        desk.claim("crane", "a")


def test_a_dispute_comes_first_for_leads_and_never_for_others(desk: ReviewDesk) -> None:
    for name, score in (("a", 0.7), ("b", 0.9), ("c", 0.8)):
        desk.flag(name, score)
    desk.say("heron", "a", chance=ALWAYS)
    desk.say("heron", "c", chance=ALWAYS)
    desk.say("ibis", "a", "real")
    assert given_out(desk, "crane") == names("c", "b")
    assert given_out(desk, "lead") == names("a", "c", "b")
    with pytest.raises(NotWaitingError, match="contradict each other: a lead decides"):
        desk.claim("crane", "a")
    assert desk.say("lead", "a").kind == "appeal"
    assert desk.row("SELECT statement, appeals FROM review_status WHERE sha256 = :one", one=sha256_of("a")) == {
        "statement": "fake",
        "appeals": 1,
    }


def test_filters_limit_which_contents_come(desk: ReviewDesk) -> None:
    desk.flag("a", 0.95, scan=OTHER_SCAN)
    desk.flag("b", 0.9, uri="s3://other/b")
    desk.flag("c", 0.85, detector=2)
    desk.flag("d", 0.5)
    desk.flag("e", None)
    with desk.database.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO content_external_ids VALUES ('post 1', '{sha256_of('d')}')")
    expected = {
        Filters(scan_id=OTHER_SCAN): names("a"),
        Filters(bucket="other"): names("b"),
        Filters(detector_id=2): names("c"),
        Filters(verdict=Verdict.UNCERTAIN): names("d", "e"),
        Filters(external_id="post 1"): names("d"),
        Filters(contents=tuple(names("e", "b", "x"))): names("b", "e"),
        Filters(bucket="b", detector_id=1, verdict=Verdict.FAKE): names("a"),
        Filters(bucket="none"): [],
    }
    for filters, contents in expected.items():
        assert given_out(desk, "heron", filters) == contents, filters


def test_a_claim_that_does_not_fit_the_filters_stays_and_another_is_given(desk: ReviewDesk) -> None:
    desk.flag("a", 0.95)
    desk.flag("b", 0.9, uri="s3://other/b")
    first, second = desk.next("heron"), desk.next("heron", Filters(bucket="other"))
    assert first is not None
    assert second is not None
    assert [first.sha256, second.sha256] == names("a", "b")
    assert claims.holder(desk.database, first.sha256) is not None


def test_a_lead_decides_no_dispute_of_their_own_if_another_lead_can(desk: ReviewDesk) -> None:
    desk.flag("a")
    desk.say("lead", "a", chance=ALWAYS)
    desk.say("ibis", "a", "real")
    assert given_out(desk, "lead") == names("a"), "there is nobody else"
    desk.person("admin", DeskRole.ADMIN)
    assert given_out(desk, "lead") == []
    with pytest.raises(NotWaitingError, match="another lead, who has said nothing about it, decides it"):
        desk.claim("lead", "a")
    assert given_out(desk, "admin") == names("a")
    disable_reviewer(desk.database, "admin")
    assert desk.say("lead", "a").kind == "appeal"


def test_a_reviewer_who_finds_every_content_taken_must_ask_again(desk: ReviewDesk) -> None:
    desk.flag("a")
    lock = "SELECT pg_advisory_xact_lock(:key, hashtext(:sha256))"
    with desk.database.begin() as other:
        other.execute(text(lock), {"key": 0x434C4149, "sha256": sha256_of("a")})
        with pytest.raises(TransientError, match="other people were faster each time"):
            desk.next("heron")
    assert given_out(desk, "heron") == names("a")
