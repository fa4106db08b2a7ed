"""Second opinions in scans that record changes, when workers lack the further detector."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from producers import publishing, scans
from producers.reporting import results
from producers.testing import InMemoryPublisher, InMemorySource
from tests.integration.test_second_opinions import ALL_SAID, ALSO, refuse_red, said
from tests.second_opinions import DIFFER, FURTHER, IMAGES, Two
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.messages import Explain, ImageRef, JudgeImages, Policy, Record
from worker.moderate import moderate
from worker.parts import Parts
from worker.testing import ScriptedEngine, scripted_description

COUNTS = ("judged", "reused", "unchanged", "failed", "missing_opinions")
UNCHANGED = (0, 0, 6, 0, 0)
RECORDED_WITHOUT, UNCHANGED_WITHOUT = (0, 6, 0, 0, 6), (0, 0, 6, 0, 6)


class Nights:
    """Scans of the images, night after night. All have been judged before, in a scan without second opinions."""

    def __init__(self, database: Database) -> None:
        self.database, self.two = database, Two(database)
        self.holding, self.lacking = self.two.parts(), self.two.parts(holds_it=False)
        self.night(self.lacking, Policy())

    def start(self, policy: Policy = ALSO, record: Record = Record.CHANGES) -> UUID:
        return scans.start_scan(self.database, scans.Listing(sources=("s3://b/",)), policy=policy, record=record).id

    def publish(self, scan_id: UUID) -> list[JudgeImages]:
        refs = [ImageRef(uri=uri, etag=self.two.store.etag(uri)) for uri in sorted(IMAGES)]
        publisher = InMemoryPublisher()
        publishing.publish_scan(
            publisher, self.database, scan_id, opened=lambda _sources, rules, _warn: InMemorySource(refs, rules)
        )
        return [JudgeImages.parse(message) for _, message in publisher.published]

    def judge(self, jobs: list[JudgeImages], parts: Parts) -> None:
        for job in jobs:
            moderate(job, uuid4(), parts)

    def night(self, parts: Parts, *options: Any) -> UUID:
        scan_id = self.start(*options)
        self.judge(self.publish(scan_id), parts)
        return scan_id

    def counts(self, scan_id: UUID) -> tuple[int, ...]:
        found = results.summary(self.database, scan_id)
        assert found["status"] == "done"
        assert sum(found[name] for name in COUNTS[:-1]) == found["listed"] == len(IMAGES)
        return tuple(found.get(name, 0) for name in COUNTS)

    def recorded(self, scan_id: UUID) -> set[str]:
        return {row["uri"] for row in results.rows(self.database, scan_id)}


@pytest.fixture
def nights(database: Database) -> Nights:
    return Nights(database)


def test_an_opinion_that_nobody_gives_is_recorded_once_and_counted_every_night(nights: Nights) -> None:
    first = nights.night(nights.lacking)
    assert nights.counts(first) == RECORDED_WITHOUT
    for _ in range(2):
        again = nights.start()
        assert nights.publish(again) == []
        assert nights.counts(again) == UNCHANGED_WITHOUT
        assert nights.recorded(again) == set()


def test_when_a_worker_starts_with_the_detector_it_gives_what_is_missing(database: Database, nights: Nights) -> None:
    nights.night(nights.lacking)
    nights.night(nights.lacking)
    scan_id = nights.night(nights.two.parts())
    assert nights.counts(scan_id) == (0, 6, 0, 0, 0)
    with transaction(database) as session:
        scan = scans.find_scan(session, scan_id)
    assert said(database, scan) == ALL_SAID
    assert nights.counts(nights.night(nights.lacking)) == UNCHANGED


def test_an_opinion_that_was_given_elsewhere_is_not_missing(nights: Nights) -> None:
    """A worker that has had the detector all the time judges copies. A finding shows where they differ."""
    nights.night(nights.lacking)
    copies = {uri.replace("s3://b", "s3://c"): data for uri, data in IMAGES.items()}
    nights.two.store.objects |= copies
    scan_id = nights.start(ALSO, Record.ALL)
    job = JudgeImages(scan_id=scan_id, images=tuple(ImageRef(uri=uri) for uri in copies))
    moderate(job, uuid4(), nights.holding)
    night = nights.night(nights.lacking)
    assert nights.counts(night) == (0, 2, 4, 0, 0)
    assert nights.recorded(night) == DIFFER
    assert nights.counts(nights.night(nights.lacking)) == UNCHANGED


def test_what_the_detector_refuses_is_asked_again_every_night(nights: Nights) -> None:
    nights.two.further = ScriptedEngine(nights.two.further._score, fail=refuse_red)
    refusing = nights.two.parts()
    nights.night(refusing)
    for _ in range(2):
        night = nights.night(refusing)
        assert nights.counts(night) == (0, 1, 5, 0, 1)
        assert nights.recorded(night) == {"s3://b/red"}


def test_an_audit_by_another_policy_takes_nothing_away_from_the_next_night(nights: Nights) -> None:
    nights.night(nights.lacking)
    audit = nights.night(nights.lacking, Policy(also=(FURTHER,), explain=Explain.NONE), Record.ALL)
    assert nights.counts(audit) == RECORDED_WITHOUT
    assert nights.counts(nights.night(nights.lacking)) == UNCHANGED_WITHOUT


def test_an_image_that_was_replaced_is_recorded(nights: Nights) -> None:
    nights.night(nights.lacking)
    nights.two.store.objects["s3://b/grey"] = IMAGES["s3://b/red"]
    night = nights.night(nights.lacking)
    assert nights.counts(night) == (0, 1, 5, 0, 6)
    assert nights.recorded(night) == {"s3://b/grey"}


def test_each_opinion_counts_that_is_missing(database: Database, nights: Nights) -> None:
    register_detector(database, scripted_description(name="third").row(), further=True)
    policy = Policy(also=(FURTHER, "third"))
    assert nights.counts(nights.night(nights.lacking, policy)) == (0, 6, 0, 0, 12)
    assert nights.counts(nights.night(nights.lacking, policy)) == (0, 0, 6, 0, 12)
    partly = nights.two.parts()
    assert nights.counts(nights.night(partly, policy)) == RECORDED_WITHOUT
    assert nights.counts(nights.night(partly, policy)) == UNCHANGED_WITHOUT


def test_a_repair_counts_missing_opinions_once(nights: Nights) -> None:
    nights.night(nights.lacking)
    night = nights.night(nights.lacking)
    scans.repair(nights.database, night)
    assert nights.publish(night) == []
    assert nights.counts(night) == UNCHANGED_WITHOUT


def test_a_repair_counts_no_image_twice_if_its_message_comes_late(nights: Nights) -> None:
    """Meanwhile, another scan decides the same images without the opinion."""
    night = nights.start()
    late = nights.publish(night)
    assert late
    nights.night(nights.lacking)
    scans.repair(nights.database, night)
    again = nights.publish(night)
    for jobs in (again, late, again):
        nights.judge(jobs, nights.lacking)
    assert nights.counts(night) == RECORDED_WITHOUT


def test_a_worker_that_does_not_know_all_further_detectors_stores_no_rule(database: Database, nights: Nights) -> None:
    """Its own detector is the one that the scan asks for: nobody can say when its opinion would be there."""
    (further,) = nights.holding.also
    scan_id = nights.start()
    jobs = nights.publish(scan_id)
    nights.judge(jobs, replace(nights.holding, detector=further.detector, detector_id=further.detector_id, also=()))
    with transaction(database) as session:
        assert set(session.execute(text("SELECT rule FROM objects")).scalars()) == {None}
