"""Second opinions on a real Postgres, with two scripted detectors that differ on some images."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from PIL import Image
from sqlalchemy import text
from sqlmodel import Session, select
from structlog.testing import capture_logs

from producers import scans, submissions
from producers.dedupe import fill_reuse_rule, reuse_unchanged
from tests.second_opinions import DIFFER, FURTHER, IMAGES, Two, png, redness
from worker.broker import create_app
from worker.database import Database, transaction
from worker.detector.detector import Detector
from worker.detector.vlm import VlmDetector
from worker.errors import EngineDeadError, EngineGenerateError, NoSuchDetectorError, OlderAtWorkError
from worker.messages import ImageRef, JudgeImages, Policy, Record
from worker.metrics import Metrics
from worker.metrics.declared import DECODE
from worker.moderate import moderate
from worker.tables import Finding, Scan, ScanStatus, StoredObject, StoredVerdict
from worker.testing import ScriptedEngine, scripted_description

ALSO = Policy(also=(FURTHER,))


@pytest.fixture
def two(database: Database) -> Two:
    return Two(database)


def started(database: Database, listed: int = len(IMAGES), policy: Policy = ALSO, **more: Any) -> Scan:
    """A scan whose listing is complete. A worker with the further detector has started before."""
    Two(database).parts()
    scan = scans.start_scan(database, scans.Listing(sources=("s3://b/",)), policy=policy, **more)
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        row.listed, row.status = listed, ScanStatus.RUNNING
    return scan


def job(scan: Scan, *uris: str, **changes: Any) -> JudgeImages:
    return JudgeImages(scan_id=scan.id, images=tuple(ImageRef(uri=uri) for uri in uris or IMAGES), **changes)


def findings(database: Database, scan: Scan) -> dict[str, Finding]:
    with Session(database) as session:
        return {row.uri: row for row in session.exec(select(Finding).where(Finding.scan_id == scan.id))}


def said(database: Database, scan: Scan) -> dict[str, tuple[Any, ...]]:
    """For each image: the main verdict, the further one, whether it is missing, and whether the two differ."""
    query = text(
        "SELECT uri, verdict, further_verdict, missing, differs, differs_at_all FROM second_opinions "
        "WHERE scan_id = :scan_id AND further_name = :name"
    )
    with transaction(database) as session:
        rows = session.execute(query, {"scan_id": scan.id, "name": FURTHER}).all()
    return {row.uri: tuple(row)[1:] for row in rows}


def disagreements(database: Database, scan: Scan) -> set[str]:
    query = text("SELECT uri FROM disagreements WHERE scan_id = :scan_id")
    with transaction(database) as session:
        return set(session.execute(query, {"scan_id": scan.id}).scalars())


def verdicts(database: Database) -> int:
    with Session(database) as session:
        return len(session.exec(select(StoredVerdict)).all())


ALL_SAID = {
    "s3://b/white": ("fake", "fake", False, False, False),
    "s3://b/black": ("real", "real", False, False, False),
    "s3://b/red": ("real", "fake", False, True, True),
    "s3://b/cyan": ("fake", "real", False, True, True),
    "s3://b/grey": ("uncertain", "uncertain", False, False, False),
    "s3://b/rose": ("uncertain", "fake", False, False, True),
}


def test_the_views_hold_what_both_say_and_exactly_the_images_on_which_they_differ(database: Database, two: Two) -> None:
    scan = started(database)
    assert moderate(job(scan), uuid4(), two.parts()) is None
    assert said(database, scan) == ALL_SAID
    assert disagreements(database, scan) == DIFFER
    stored = findings(database, scan)
    with Session(database) as session:
        for row in stored.values():
            (opinion,) = row.opinions or []
            verdict = session.get_one(StoredVerdict, opinion["verdict_id"])
            assert (verdict.sha256, verdict.detector_id) == (row.sha256, opinion["detector_id"])
            main = session.get_one(StoredVerdict, row.verdict_id)
            assert (main.sha256, main.detector_id != verdict.detector_id) == (row.sha256, True)
        done = session.get_one(Scan, scan.id)
        assert (done.status, done.judged, done.fake, done.real, done.uncertain) == ("done", 6, 2, 2, 2)


def test_a_scan_that_asks_for_none_gets_none(database: Database, two: Two) -> None:
    scan = started(database, policy=Policy())
    moderate(job(scan), uuid4(), two.parts())
    assert two.further.calls == []
    assert {row.opinions for row in findings(database, scan).values()} == {None}
    assert said(database, scan) == {}


def test_one_fetch_and_one_decode_serve_both(database: Database, two: Two) -> None:
    metrics = Metrics.declare()
    parts = replace(two.parts(), metrics=metrics.bound(queue="moderation.scan"))
    moderate(job(started(database)), uuid4(), parts)
    assert sorted(two.store.fetched) == sorted(IMAGES)
    decoded = metrics.registry.get_sample_value(f"{DECODE.name}_count", {"queue": "moderation.scan"})
    assert decoded == len(IMAGES)
    assert (two.main.calls, two.further.calls) == ([6], [6])


def test_only_what_is_lacking_is_judged(database: Database, two: Two) -> None:
    first = started(database, policy=Policy())
    moderate(job(first), uuid4(), two.parts())
    second = started(database)
    moderate(job(second), uuid4(), two.parts())
    assert (two.main.calls, two.further.calls) == ([6], [6])
    assert {row.outcome for row in findings(database, second).values()} == {"reused"}
    assert said(database, second) == ALL_SAID
    third = started(database)
    moderate(job(third), uuid4(), two.parts())
    assert (two.main.calls, two.further.calls) == ([6], [6])
    assert said(database, third) == ALL_SAID
    assert verdicts(database) == 2 * len(IMAGES)


def test_copies_in_a_message_share_the_opinion(database: Database, two: Two) -> None:
    two.store.objects = {"s3://b/1": png("#ff0000"), "s3://b/2": png("#ff0000")}
    scan = started(database, 2)
    moderate(job(scan, "s3://b/1", "s3://b/2"), uuid4(), two.parts())
    assert disagreements(database, scan) == {"s3://b/1", "s3://b/2"}
    assert verdicts(database) == 2


def test_a_redelivered_message_does_nothing_twice(database: Database, two: Two) -> None:
    scan, parts = started(database), two.parts()
    message = job(scan)
    for deaths in (0, 0, 2):
        moderate(message, uuid4(), parts, deaths=deaths)
    assert (two.further.calls, verdicts(database)) == ([6], 12)
    assert said(database, scan) == ALL_SAID


def refuse_red(image: Image.Image) -> None:
    if image.getpixel((0, 0)) == (255, 0, 0):
        raise EngineGenerateError("too red")


def test_an_image_that_the_further_detector_refuses_keeps_its_finding(database: Database, two: Two) -> None:
    two.further = ScriptedEngine(two.further._score, fail=refuse_red)
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts())
    assert findings(database, scan)["s3://b/red"].verdict == "real"
    assert said(database, scan) == ALL_SAID | {"s3://b/red": ("real", None, True, False, False)}
    with Session(database) as session:  # so that the next scan that records changes tries again
        rules = {row.uri: row.rule for row in session.exec(select(StoredObject))}
    assert {uri for uri, rule in rules.items() if rule is None} == {"s3://b/red"}


@pytest.mark.parametrize(("deaths", "images"), [(0, [3]), (2, [1, 1, 1])])
def test_missing_opinions_are_told_together_except_of_images_that_are_judged_alone(
    database: Database, two: Two, deaths: int, images: list[int]
) -> None:
    def refuse(image: Image.Image) -> None:
        if redness(image) == 1:
            raise EngineGenerateError("too red")

    two.further = ScriptedEngine(two.further._score, fail=refuse)
    scan = started(database)
    with capture_logs() as logs:
        moderate(job(scan), uuid4(), two.parts(), deaths=deaths)
    told = [one for one in logs if one["event"] == "second_opinions_incomplete"]
    assert [(one["images"], one["scan_id"]) for one in told] == [(count, str(scan.id)) for count in images]
    assert not [one for one in logs if one["event"] == "second_opinions_missing"], "this worker has the detector"


def test_a_detector_that_the_worker_lacks_is_told_once(database: Database, two: Two) -> None:
    scan = started(database)
    with capture_logs() as logs:
        moderate(job(scan), uuid4(), two.parts(holds_it=False))
    assert [one["event"] for one in logs if one["event"].startswith("second_")] == ["second_opinions_missing"]


class Breaks:
    """A detector with a fault in its code: it raises an error for any call with a red image."""

    def __init__(self, inner: Detector) -> None:
        self._inner = inner
        self.description, self.engine_name, self.on_gpu = inner.description, inner.engine_name, inner.on_gpu

    def judge(self, images: Any, policy: Any, *, live: bool = False) -> Any:
        if any(image.getpixel((0, 0)) == (255, 0, 0) for image in images):
            raise ValueError("a fault")
        return self._inner.judge(images, policy, live=live)

    def check(self) -> None:
        """Nothing is dead."""

    def close(self) -> None:
        """Nothing is open."""


def test_a_fault_in_the_further_detector_costs_one_opinion(database: Database, two: Two) -> None:
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts(wrapped=Breaks))
    assert said(database, scan) == ALL_SAID | {"s3://b/red": ("real", None, True, False, False)}


def test_an_image_that_kills_the_further_detector_gets_its_main_finding(database: Database, two: Two) -> None:
    """The workers die with the message, and once with the image alone. The last try is without the further detector."""

    def die(image: Image.Image) -> None:
        if image.getpixel((0, 0)) == (255, 0, 0):
            raise EngineDeadError("killed")

    scan, message, message_id = started(database), job(started(database)), uuid4()
    message = message.model_copy(update={"scan_id": scan.id})
    for deaths in range(3):
        fresh = Two(database, further=ScriptedEngine(two.further._score, fail=die))
        with pytest.raises(EngineDeadError):
            moderate(message, message_id, fresh.parts(), deaths=deaths)
    last = Two(database, further=ScriptedEngine(two.further._score, fail=die))
    moderate(message, message_id, last.parts(), deaths=3)
    assert findings(database, scan)["s3://b/red"].verdict == "real"
    assert said(database, scan)["s3://b/red"] == ("real", None, True, False, False)
    assert said(database, scan)["s3://b/cyan"] == ALL_SAID["s3://b/cyan"]


def test_a_worker_without_the_detector_saves_the_main_finding(database: Database, two: Two) -> None:
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts(holds_it=False))
    assert {row.outcome for row in findings(database, scan).values()} == {"judged"}
    assert {missing for _, _, missing, *_ in said(database, scan).values()} == {True}
    assert disagreements(database, scan) == set()


def refs(two: Two) -> list[ImageRef]:
    return [ImageRef(uri=uri, etag=two.store.etag(uri)) for uri in sorted(IMAGES)]


@pytest.mark.parametrize("record", list(Record))
def test_an_image_is_unchanged_only_if_the_further_detector_has_judged_it(
    database: Database, two: Two, record: Record
) -> None:
    listed = refs(two)
    before = started(database, policy=Policy())
    parts = two.parts()
    moderate(JudgeImages(scan_id=before.id, images=tuple(listed)), uuid4(), parts)
    scan = started(database, record=record)
    assert left(database, scan, listed) == sorted(IMAGES)
    moderate(JudgeImages(scan_id=scan.id, images=tuple(listed)), uuid4(), parts)
    assert said(database, scan) == ALL_SAID
    again = started(database, record=record)
    assert left(database, again, listed) == []
    assert said(database, again) == (ALL_SAID if record is Record.ALL else {})
    assert (two.main.calls, two.further.calls) == ([6], [6])


def test_in_a_scan_that_records_changes_a_new_further_detector_shows_where_it_differs(
    database: Database, two: Two
) -> None:
    """Both detectors have judged all images in other scans. Then a nightly scan asks for the further one, too."""
    listed, parts = refs(two), two.parts()
    for policy in (ALSO, Policy()):
        before = started(database, policy=policy)
        moderate(JudgeImages(scan_id=before.id, images=tuple(listed)), uuid4(), parts)
        assert left(database, started(database, policy=policy, record=Record.CHANGES), listed) == []
    scan = started(database, record=Record.CHANGES)
    assert left(database, scan, listed) == []
    assert findings(database, scan).keys() == disagreements(database, scan) == DIFFER
    again = started(database, record=Record.CHANGES)
    assert left(database, again, listed) == []
    assert findings(database, again) == {}


def test_a_producer_writes_the_same_opinions_as_a_worker(database: Database, two: Two) -> None:
    listed, parts = refs(two), two.parts()
    moderate(JudgeImages(scan_id=started(database).id, images=tuple(listed)), uuid4(), parts)
    by_worker, by_producer = started(database), started(database)
    moderate(JudgeImages(scan_id=by_worker.id, images=tuple(listed)), uuid4(), parts)
    assert left(database, by_producer, listed) == []
    for one, other in zip(*(findings(database, scan).items() for scan in (by_worker, by_producer)), strict=True):
        assert (one[0], one[1].opinions, one[1].verdict_id) == (other[0], other[1].opinions, other[1].verdict_id)


def left(database: Database, scan: Scan, listed: list[ImageRef]) -> list[str]:
    """The uris that a producer publishes. It looks up the further detector by its name."""
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        rule = fill_reuse_rule(session, row)
        assert rule is not None
        return [ref.uri for ref in reuse_unchanged(session, row, listed, rule).left]


@pytest.mark.parametrize("start", ["scan", "submit"])
def test_a_name_that_no_worker_has_started_with_is_refused_at_the_start(
    database: Database, two: Two, start: str
) -> None:
    two.parts()
    policy = Policy(also=("nobody",))
    starts: dict[str, Callable[[], object]] = {
        "scan": lambda: scans.start_scan(database, scans.Listing(sources=("s3://b/",)), policy=policy),
        "submit": lambda: submissions.submit(
            create_app("memory://"), database, [ImageRef(uri="s3://b/1")], policy=policy
        ),
    }
    with pytest.raises(NoSuchDetectorError, match=f"no worker has started with 'nobody'.*: {FURTHER}. Name it in"):
        starts[start]()
    with transaction(database) as session:
        assert session.execute(text("SELECT count(*) FROM scans")).scalar_one() == 0


def test_the_detector_that_decides_gives_no_second_opinion(database: Database, two: Two) -> None:
    two.parts()
    with pytest.raises(NoSuchDetectorError, match="'scripted' is the detector that decides"):
        started(database, policy=Policy(also=("scripted",)))


def test_a_worker_whose_own_detector_is_the_further_one_does_not_ask_it(database: Database, two: Two) -> None:
    scan, parts = started(database), two.parts()
    (further,) = parts.also
    moderate(job(scan), uuid4(), replace(parts, detector=further.detector, detector_id=further.detector_id, also=()))
    assert {missing for _, _, missing, *_ in said(database, scan).values()} == {True}
    moderate(job(again := started(database)), uuid4(), replace(parts, detector_id=further.detector_id))
    assert {missing for _, _, missing, *_ in said(database, again).values()} == {True}


def test_a_detector_without_which_workers_start_for_long_is_refused(database: Database, two: Two) -> None:
    two.parts()
    with transaction(database) as session:
        # All workers run for long: the detector is there.
        session.execute(text("UPDATE detectors SET started_at = started_at - interval '90 days', "
                             "also_at = also_at - interval '90 days'"))  # fmt: skip
    policy, listing = ALSO, scans.Listing(sources=("s3://b/",))
    scans.start_scan(database, listing, policy=policy)
    Two(database).main_alone()
    with pytest.raises(NoSuchDetectorError, match=f"no worker has started with '{FURTHER}' .* since 20"):
        scans.start_scan(database, listing, policy=policy)


@pytest.mark.parametrize(
    ("policy", "release"), [(ALSO, "0022"), (ALSO, "0017"), (Policy(judge=True), "0017"), (Policy(judge=True), "0013")]
)
def test_a_scan_is_refused_while_workers_are_connected_that_reject_its_messages(
    database: Database, database_url: str, two: Two, policy: Policy, release: str
) -> None:
    two.parts()
    listing = scans.Listing(sources=("s3://b/",))
    with psycopg.connect(database_url, application_name=f"fakesweep {release}"):
        with pytest.raises(OlderAtWorkError, match=f"older releases are connected.*{release}.*docs/upgrading"):
            scans.start_scan(database, listing, policy=policy)
        with pytest.raises(OlderAtWorkError, match="older releases are connected"):
            submissions.submit(create_app("memory://"), database, [ImageRef(uri="s3://b/1")], policy=policy)
        scans.start_scan(database, listing)


def test_the_thresholds_of_a_further_detector_are_those_with_which_the_scan_was_started(
    database: Database, two: Two
) -> None:
    """Whoever looks at an image: a worker whose description has others by now, or a producer."""
    listed, parts = refs(two), two.parts()
    moderate(JudgeImages(scan_id=started(database).id, images=tuple(listed)), uuid4(), parts)
    scan, by_producer = started(database), started(database)
    (further,) = parts.also
    other = scripted_description(name=FURTHER, thresholds={"fake_from": 1.0, "real_to": 0.99})
    changed = replace(further, detector=VlmDetector(two.further, other))
    with transaction(database) as session:
        session.execute(text("UPDATE detectors SET description = CAST(:new AS jsonb) WHERE name = :name"),
                        {"new": other.model_dump_json(), "name": FURTHER})  # fmt: skip
    moderate(job(scan), uuid4(), replace(parts, also=(changed,)))
    assert said(database, scan) == ALL_SAID
    assert left(database, by_producer, listed) == []
    assert said(database, by_producer) == ALL_SAID


def test_a_worker_without_the_detector_reuses_what_it_has_said(database: Database, two: Two) -> None:
    moderate(job(started(database)), uuid4(), two.parts())
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts(holds_it=False))
    assert said(database, scan) == ALL_SAID


def test_a_worker_without_the_detector_fetches_nothing_for_it(database: Database, two: Two) -> None:
    listed = tuple(refs(two))
    moderate(JudgeImages(scan_id=started(database, policy=Policy()).id, images=listed), uuid4(), two.parts())
    two.store.fetched.clear()
    scan = started(database)
    moderate(JudgeImages(scan_id=scan.id, images=listed), uuid4(), two.parts(holds_it=False))
    assert two.store.fetched == []
    assert {row.outcome for row in findings(database, scan).values()} == {"reused"}


def test_where_the_main_detector_fails_the_further_one_is_not_asked(database: Database, two: Two) -> None:
    two.main = ScriptedEngine(fail=refuse_red)
    scan = started(database)
    moderate(job(scan), uuid4(), two.parts())
    assert (findings(database, scan)["s3://b/red"].outcome, two.further.calls) == ("failed", [5])


def test_a_second_opinion_has_the_thresholds_of_its_own_detector(database: Database, two: Two) -> None:
    """The scan's thresholds call everything fake. The further detector keeps its own."""
    scan = started(database, policy=Policy(fake_from=0.0, real_to=0.0, also=(FURTHER,)))
    moderate(job(scan, "s3://b/black"), uuid4(), two.parts())
    assert said(database, scan) == {"s3://b/black": ("fake", "real", False, True, True)}


def test_a_worker_stores_the_rule_that_the_next_producer_has(database: Database, two: Two) -> None:
    """Otherwise, each nightly scan that records changes would look at every image again."""
    scan = started(database)
    moderate(JudgeImages(scan_id=scan.id, images=tuple(refs(two))), uuid4(), two.parts())
    with transaction(database) as session:
        rule = fill_reuse_rule(session, session.get_one(Scan, started(database).id))
        assert rule is not None
        assert len(rule.also) == 1
        rules = set(session.execute(text("SELECT rule FROM objects")).scalars())
    assert rules == {rule.fingerprint}
