"""What pages show: the queue, an item, agreement, and a person's own pace."""

import pytest
from sqlalchemy import text

from producers.web.access.people import Person
from producers.web.desk.agreement import agreement
from producers.web.desk.item import item
from producers.web.desk.pace import pace
from producers.web.desk.queue import MOST_COUNTED, Filters, choices, how_many, waiting
from producers.web.desk.undo import undo_last
from tests.integration.test_reviews import REAL
from tests.integration.test_scans import Archive, png
from tests.reviewing import ALWAYS, ReviewDesk, sha256_of
from worker.database import Database, transaction
from worker.errors import UsageError
from worker.tables import DeskRole, Verdict

HERON = Person("heron", DeskRole.REVIEWER)


@pytest.fixture
def desk(database: Database) -> ReviewDesk:
    return ReviewDesk(database)


def test_pages_together_are_the_whole_queue(desk: ReviewDesk) -> None:
    for number, score in enumerate((0.9, 0.9, None, 0.5, 0.9, None, 0.95)):
        desk.flag(f"{number}", score, at=number % 2)
    desk.say("heron", "3", chance=ALWAYS)
    ibis = desk.people["ibis"]
    whole = [one.sha256 for one in waiting(desk.database, ibis, Filters()).items]
    found, after = [], None
    while True:
        page = waiting(desk.database, ibis, Filters(), after=after, limit=2)
        found += [one.sha256 for one in page.items]
        if (after := page.next) is None:
            break
    assert found == whole == [sha256_of(name) for name in "3604125"]
    assert how_many(desk.database, HERON, Filters()) == 6
    assert [one.name for one in choices(desk.database).detectors] == ["d1"]
    for bad in ("x", "bnVsbA==", "é"):
        with pytest.raises(UsageError, match="begin at the first one"):
            waiting(desk.database, ibis, Filters(), after=bad)


_COPIES = """
INSERT INTO contents (sha256, detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places)
SELECT md5(n::text) || md5('x' || n), detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places
FROM contents, generate_series(CAST(:first AS int), CAST(:last AS int)) n
WHERE sha256 = :sha256
"""


def test_a_long_queue_is_not_counted_to_its_end(desk: ReviewDesk) -> None:
    desk.flag("a")
    flagged = Filters(verdict=Verdict.FAKE)
    for first, last, wanted in ((2, MOST_COUNTED, MOST_COUNTED), (MOST_COUNTED + 1, MOST_COUNTED + 1, None)):
        with transaction(desk.database) as session:
            session.execute(text(_COPIES), {"first": first, "last": last, "sha256": sha256_of("a")})
        assert how_many(desk.database, HERON, Filters()) == how_many(desk.database, HERON, flagged) == wanted
    assert how_many(desk.database, HERON, Filters(verdict=Verdict.UNCERTAIN)) == 0


def test_the_second_reviewer_does_not_see_what_the_first_one_said(desk: ReviewDesk) -> None:
    desk.flag("a")
    desk.say("heron", "a", chance=ALWAYS)
    shown = item(desk.database, desk.people["ibis"], sha256_of("a"))
    assert shown is not None
    assert (shown.reviews_hidden, shown.reviews, shown.statement, shown.second_look) == (True, [], None, True)
    desk.say("ibis", "a")
    shown = item(desk.database, desk.people["ibis"], sha256_of("a"))
    assert shown is not None
    assert [one.reviewer for one in shown.reviews] == ["heron", "ibis"]
    assert (shown.uri, shown.statement, shown.waits_for_person) == ("s3://b/a", "fake", False)
    assert item(desk.database, desk.people["ibis"], "0" * 64) is None


def test_agreement_has_no_number_before_there_are_enough_reviews(desk: ReviewDesk) -> None:
    for number in range(20):
        assert agreement(desk.database).alpha is None
        desk.flag(f"{number}")
        statement = "real" if number % 2 else "fake"
        desk.say("heron", f"{number}", statement, ALWAYS)
        desk.say("ibis", f"{number}", statement)
    found = agreement(desk.database)
    assert (found.alpha, found.contents, found.pairs[0].kappa) == (1.0, 20, 1.0)
    assert pace(desk.database, desk.people["heron"]).today == 20
    assert pace(desk.database, desk.people["crane"]).median_s is None


def test_agreement_counts_what_was_said_before_the_other_review(desk: ReviewDesk) -> None:
    for number in range(20):
        desk.flag(f"{number}")
        desk.say("heron", f"{number}", "fake", ALWAYS)
        desk.say("ibis", f"{number}", "real" if number == 0 else "fake")
    undo_last(desk.database, desk.people["heron"], newest=1, claim_s=600)
    assert agreement(desk.database).contents == 19, "one content has a single review"
    assert desk.say("heron", "0", "real").kind == "second"
    (pair,) = agreement(desk.database).pairs
    assert (pair.contents, pair.agreed) == (20, 19)


def test_a_content_that_was_never_flagged_shows_its_newest_finding(database: Database) -> None:
    archive = Archive(database, {"s3://b/dark": png(REAL)})
    archive.sweep()
    desk = ReviewDesk(database)
    sha256 = desk.one("SELECT sha256 FROM verdicts")
    shown = item(database, desk.people["ibis"], sha256)
    assert shown is not None
    assert (shown.flagged, shown.verdict, shown.waits) == (False, "real", False)
    assert shown.scan is not None
    assert (shown.scan.fake_from, shown.verdicts[0].verdict) == (0.6, "real")
