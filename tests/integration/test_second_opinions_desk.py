"""The review desk and second opinions: what detectors differ on comes first, and the page shows what each says."""

from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import text

from producers.web.access.people import Person
from producers.web.desk.item import item
from producers.web.desk.queue import Filters, how_many, waiting
from tests.desk import desk_app, logged_in, person
from tests.integration.test_second_opinions import job, started
from tests.reviewing import ReviewDesk
from tests.second_opinions import FURTHER, Two
from worker.database import Database, transaction
from worker.detector.vlm import VlmDetector
from worker.messages import ImageRef, JudgeImages, Policy
from worker.moderate import moderate
from worker.tables import DeskRole, Verdict
from worker.testing import ScriptedEngine, scripted_description

HERON = Person("heron", DeskRole.REVIEWER)


@pytest.fixture
def two(database: Database) -> Two:
    return Two(database)


def queue(database: Database, filters: Filters | None = None) -> list[str]:
    return [one.uri for one in waiting(database, HERON, filters or Filters()).items]


def test_contents_on_which_detectors_differ_come_first(database: Database, two: Two) -> None:
    """Red is real to the scan's own detector. It waits because the further detector calls it fake."""
    moderate(job(started(database)), uuid4(), two.parts())
    assert queue(database) == ["s3://b/red", "s3://b/cyan", "s3://b/white", "s3://b/rose", "s3://b/grey"]
    assert how_many(database, HERON, Filters()) == 5
    assert queue(database, Filters(differ=True)) == ["s3://b/red", "s3://b/cyan"]
    assert how_many(database, HERON, Filters(differ=True)) == 2
    assert queue(database, Filters(differ=True, verdict=Verdict.FAKE)) == ["s3://b/red", "s3://b/cyan"]


def test_pages_pass_from_one_section_to_the_next(database: Database, two: Two) -> None:
    moderate(job(started(database)), uuid4(), two.parts())
    found, after = [], None
    while True:
        page = waiting(database, HERON, Filters(), after=after, limit=1)
        found += [one.uri for one in page.items]
        if (after := page.next) is None:
            break
    assert found == queue(database)


def missed(database: Database) -> list[str]:
    """The uris of the contents that wait only because a further detector calls them fake."""
    query = text("SELECT uri FROM contents WHERE missed AND NOT superseded AND statement IS NULL ORDER BY uri")
    with transaction(database) as session:
        return list(session.execute(query).scalars())


def again(database: Database, two: Two, policy: Policy | None = None, *, holds_it: bool = True) -> None:
    """Scans the images again, asking for second opinions unless `policy` says otherwise."""
    scan = started(database, policy=policy) if policy else started(database)
    moderate(job(scan), uuid4(), two.parts(holds_it=holds_it))


def test_a_later_scan_that_does_not_ask_leaves_a_missed_content_in_the_queue(database: Database, two: Two) -> None:
    """Anybody may upload the picture again. This must not take it out of the queue."""
    again(database, two)
    again(database, two, Policy())
    assert queue(database)[0] == "s3://b/red"
    assert how_many(database, HERON, Filters()) == 5
    again(database, two)
    assert queue(database)[0] == "s3://b/red"
    with transaction(database) as session:
        places = session.execute(text("SELECT places FROM contents WHERE uri = 's3://b/red'")).scalars().all()
    assert places == [1]


def test_an_opinion_that_is_only_missing_changes_nothing(database: Database, two: Two) -> None:
    again(database, two)
    before = queue(database)
    with transaction(database) as session:  # so that the verdicts of the further detector are of no use
        session.execute(text("UPDATE detectors SET fingerprint = 'gone', name = 'gone' WHERE name = :name"),
                        {"name": FURTHER})  # fmt: skip
    again(database, two, holds_it=False)
    assert queue(database) == before
    assert queue(database, Filters(differ=True)) == ["s3://b/red", "s3://b/cyan"]


def test_a_newer_opinion_of_that_detector_takes_a_missed_content_back(database: Database, two: Two) -> None:
    again(database, two)
    assert missed(database) == ["s3://b/red"]
    two.further = ScriptedEngine(lambda _: 0.1)
    moderate(job(started(database, rejudge=True)), uuid4(), two.parts())
    assert missed(database) == []
    assert "s3://b/red" not in queue(database)


def test_while_the_main_detector_flags_it_a_missed_content_waits_once(database: Database, two: Two) -> None:
    again(database, two)
    again(database, two, Policy(fake_from=0.25, real_to=0.2))  # red is fake by these thresholds
    assert queue(database).count("s3://b/red") == 1
    assert missed(database) == []
    again(database, two, Policy())
    assert missed(database) == ["s3://b/red"]


def test_a_verdict_as_the_main_detector_takes_a_missed_content_back(database: Database, two: Two) -> None:
    again(database, two)
    own = Two(database, main=ScriptedEngine(lambda _: 0.1))
    parts = two.parts()
    (further,) = parts.also
    alone = replace(own.parts(), detector=VlmDetector(own.main, scripted_description(name=FURTHER)),
                    detector_id=further.detector_id)  # fmt: skip
    moderate(job(started(database, policy=Policy(), rejudge=True)), uuid4(), alone)
    assert (missed(database), queue(database)) == ([], [])


def test_a_missed_content_is_found_by_its_external_id(database: Database, two: Two) -> None:
    images = tuple(ImageRef(uri=uri, external_id=f"post {uri}") for uri in ("s3://b/red", "s3://b/black"))
    scan = started(database, 2)
    moderate(JudgeImages(scan_id=scan.id, images=images), uuid4(), two.parts())
    assert queue(database, Filters(external_id="post s3://b/red")) == ["s3://b/red"]
    with transaction(database) as session:
        named = session.execute(text("SELECT external_id FROM content_external_ids")).scalars().all()
    assert named == ["post s3://b/red"]


def test_detectors_that_agree_now_do_not_differ_any_more(database: Database, two: Two) -> None:
    moderate(job(started(database)), uuid4(), two.parts())
    # By these thresholds, the scan's detector is uncertain about cyan.
    moderate(job(started(database, policy=Policy(fake_from=0.95, real_to=0.1, also=(FURTHER,)))), uuid4(), two.parts())
    assert queue(database, Filters(differ=True)) == []


def test_the_page_shows_what_each_detector_says(database: Database, two: Two) -> None:
    moderate(job(started(database)), uuid4(), two.parts())
    person(database, "heron")
    first = waiting(database, HERON, Filters()).items[0]
    found = item(database, HERON, first.sha256)
    assert found is not None
    (one,) = found.opinions
    assert (found.main_verdict, one.detector_name, one.verdict, one.missing) == ("real", FURTHER, "fake", False)
    client = logged_in(desk_app(database), "heron")
    page = client.get(f"/items/{first.sha256}").text
    assert "Second opinions" in page
    assert FURTHER in page
    listed = client.get("/queue?differ=yes").text
    assert listed.count("<br>detectors differ") == 2


def test_a_missing_opinion_is_shown_as_missing(database: Database, two: Two) -> None:
    moderate(job(started(database)), uuid4(), two.parts(holds_it=False))
    first = waiting(database, HERON, Filters()).items[0]
    found = item(database, HERON, first.sha256)
    assert found is not None
    assert [one.missing for one in found.opinions] == [True]


def test_a_review_of_a_missed_content_is_about_the_further_verdict(database: Database, two: Two) -> None:
    """The scan's thresholds do not apply to the further detector: by them, its score would be uncertain."""
    policy = Policy(fake_from=1.0, real_to=0.4, also=(FURTHER,))
    moderate(job(started(database, policy=policy), "s3://b/red"), uuid4(), two.parts())
    desk = ReviewDesk(database)
    claimed = desk.next("ibis")
    assert claimed is not None
    desk.decide("ibis", claimed, "fake")
    assert desk.row("SELECT verdict, decision, statement FROM reviews") == {
        "verdict": "fake", "decision": "confirmed", "statement": "fake",
    }  # fmt: skip
    assert queue(database) == []
