"""Scans from their source to their last outcome: Postgres and the path are real, broker and engine are not."""

import io
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from PIL import Image
from sqlalchemy import delete
from sqlmodel import Session, SQLModel, col, select

from producers import publishing, retention, scans
from producers.limits import Limits
from producers.listing import Rules
from producers.reporting import results
from producers.testing import InMemoryPublisher, InMemorySource
from worker.database import Database, counters
from worker.database.detectors import register_detector
from worker.detector.vlm import VlmDetector
from worker.errors import BrokerUnavailableError, DatabaseUnavailableError, ScanStateError
from worker.messages import Explain, ImageRef, JudgeImages, Policy, messages_of
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import Finding, Repaired, Scan, StoredVerdict, Unpublished
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

LEVELS = (250, 5, 128)


def png(level: int, number: int = 0) -> bytes:
    target = io.BytesIO()
    image = Image.new("RGB", (20, 20), (level, level, level))
    image.putpixel((19, 19), (number % 256, number // 256, 7))
    image.save(target, "PNG")
    return target.getvalue()


@dataclass
class Archive:
    """Images in memory, and what a listing of them says."""

    database: Database
    images: dict[str, bytes | Exception] = field(default_factory=dict)
    etags: bool = True
    engine: ScriptedEngine = field(default_factory=ScriptedEngine)

    def fill(self, count: int, start: int = 0) -> None:
        self.images |= {f"s3://b/{n:05d}.png": png(LEVELS[n % 3], n) for n in range(start, start + count)}

    def parts(self, **changes: Any) -> Parts:
        description = scripted_description(**changes)
        detector_id = register_detector(self.database, description.row())
        return Parts(InMemoryImageStore(self.images), self.database, VlmDetector(self.engine, description), detector_id)

    def start(self, rules: Rules | None = None, **options: Any) -> UUID:
        listing = scans.Listing(sources=("s3://b/",), rules=rules or Rules())
        return scans.start_scan(self.database, listing, **options).id

    def refs(self) -> list[ImageRef]:
        store = InMemoryImageStore(self.images)
        return [
            ImageRef(uri=uri, etag=store.etag(uri) if self.etags else None, external_id=f"post {uri}")
            for uri in self.images
        ]

    def publish(self, scan_id: UUID, publisher: InMemoryPublisher | None = None, **options: Any) -> InMemoryPublisher:
        publisher = publisher or InMemoryPublisher()
        publishing.publish_scan(
            publisher, self.database, scan_id,
            opened=lambda _sources, rules, _warn: InMemorySource(self.refs(), rules), **options,
        )  # fmt: skip
        return publisher

    def judge(self, publisher: InMemoryPublisher, parts: Parts | None = None) -> None:
        """Judges all published messages, as workers do."""
        parts = parts or self.parts()
        for _, message in publisher.published:
            moderate(JudgeImages.parse(message), uuid4(), parts)

    def sweep(self, parts: Parts | None = None, **options: Any) -> dict[str, Any]:
        scan_id = self.start(**options)
        self.judge(self.publish(scan_id), parts)
        return results.progress(self.database, scan_id)

    def rows(self, scan_id: UUID) -> dict[str, dict[str, Any]]:
        return {row["uri"]: row for row in results.rows(self.database, scan_id)}


@pytest.fixture
def archive(database: Database) -> Archive:
    return Archive(database)


def count(database: Database, table: type[SQLModel]) -> int:
    with Session(database) as session:
        return len(session.exec(select(table)).all())


def test_a_scan_is_done_when_every_listed_image_has_its_outcome(archive: Archive) -> None:
    archive.fill(50)
    archive.images["s3://b/text.png"] = b"text"
    scan_id = archive.start()
    publisher = archive.publish(scan_id)
    assert sorted(publisher.uris) == sorted(archive.images)
    assert {queue for queue, _ in publisher.published} == {"moderation.scan"}
    *first, last = publisher.published
    publisher.published = first
    archive.judge(publisher)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"]) == ("running", 51)
    assert counts["judged"] + counts["failed"] < 51
    publisher.published = [last]
    archive.judge(publisher)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["judged"], counts["failed"]) == ("done", 51, 50, 1)
    assert archive.rows(scan_id)["s3://b/00000.png"]["external_id"] == "post s3://b/00000.png"
    assert count(archive.database, Unpublished) == 0


def test_a_scan_without_images_is_done_at_once(archive: Archive) -> None:
    assert archive.sweep()["status"] == "done"


def test_what_rules_skip_is_counted_by_cause(archive: Archive) -> None:
    archive.fill(3)
    archive.images |= {"s3://b/film.MP4": b"x", "s3://b/shout.PNG": png(3)}
    counts = archive.sweep(rules=Rules(suffixes=(".png",)))
    assert (counts["listed"], counts["skipped"], counts["skipped_by"]) == (4, 1, {"suffix": 1})


@pytest.mark.parametrize("limit", range(14))
def test_a_producer_that_ends_anywhere_continues_where_it_was(archive: Archive, limit: int) -> None:
    """There are twelve messages in three chunks. The broker, and so the producer, goes away before one of them."""
    archive.fill(12 * 16)
    scan_id = archive.start(token="one")
    dying = InMemoryPublisher(fail_after=limit)
    if limit < 12:
        with pytest.raises(BrokerUnavailableError):
            archive.publish(scan_id, dying, chunk_size=64)
        assert results.progress(archive.database, scan_id)["status"] == "listing"
    else:
        archive.publish(scan_id, dying, chunk_size=64)
    again = archive.publish(archive.start(token="one"), chunk_size=64)
    assert set(dying.uris) | set(again.uris) == set(archive.images)
    assert len(again.uris) <= len(archive.images) - max(0, limit // 4 * 64 - 64), (
        "it continued, and did not start again"
    )
    archive.judge(dying)
    archive.judge(again)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["judged"]) == ("done", 192, 192)
    assert count(archive.database, Unpublished) == 0


def test_a_scan_is_not_done_before_its_listing_ends(archive: Archive) -> None:
    archive.fill(192)
    scan_id = archive.start()
    dying = InMemoryPublisher(fail_after=8)
    with pytest.raises(BrokerUnavailableError):
        archive.publish(scan_id, dying, chunk_size=64)
    archive.judge(dying)
    counts = results.progress(archive.database, scan_id)
    assert (counts["judged"], counts["listed"], counts["status"]) == (128, 192, "listing")


def test_one_of_two_producers_on_one_scan_stops(archive: Archive) -> None:
    archive.fill(192)
    scan_id = archive.start()
    second = InMemoryPublisher()
    started: list[bool] = []

    def overtake() -> None:
        if len(first.published) == 5 and not started:
            started.append(True)
            archive.publish(scan_id, second, chunk_size=64)

    first = InMemoryPublisher(before=overtake)
    said: list[str] = []
    archive.publish(scan_id, first, chunk_size=64, warn=said.append)
    assert any("another producer" in line for line in said)
    assert set(first.uris) | set(second.uris) == set(archive.images)
    assert len(first.published) + len(second.published) <= 12 + 4, "at most one chunk is published twice"
    archive.judge(first)
    archive.judge(second)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["judged"]) == ("done", 192, 192)


def test_a_second_scan_of_unchanged_objects_sends_no_message_and_fetches_nothing(archive: Archive) -> None:
    archive.fill(60)
    first = archive.sweep()
    scan_id = archive.start()
    publisher = archive.publish(scan_id)
    assert publisher.published == []
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["reused"], counts["judged"]) == ("done", 60, 0)
    before = archive.rows(UUID(first["scan"]))
    for uri, row in archive.rows(scan_id).items():
        assert (row["outcome"], row["reused_from"]) == ("reused", uri)
        same = ("verdict", "score", "explanation", "sha256", "width", "height", "etag", "external_id", "detector")
        assert {name: row[name] for name in same} == {name: before[uri][name] for name in same}
    assert results.summary(archive.database, scan_id)["detectors"][0]["name"] == "scripted"


@pytest.mark.parametrize(
    "thresholds", [{}, {"fake_from": 0.99}, {"fake_from": 0.5, "real_to": 0.5}, {"real_to": 0.0, "fake_from": 1.0}]
)
def test_a_reused_verdict_is_the_one_that_a_worker_would_give(archive: Archive, thresholds: dict[str, float]) -> None:
    archive.fill(9)
    archive.images["s3://b/same.png"] = archive.images["s3://b/00000.png"]
    archive.sweep(policy=Policy(explain=Explain.ALL))
    policy = Policy(explain=Explain.ALL, **thresholds)
    reused = archive.start(policy=policy)
    assert archive.publish(reused).published == []
    judged = archive.sweep(policy=policy, rejudge=True)
    expected = {uri: row["verdict"] for uri, row in archive.rows(UUID(judged["scan"])).items()}
    assert {uri: row["verdict"] for uri, row in archive.rows(reused).items()} == expected


@pytest.mark.parametrize("thresholds", [{}, {"fake_from": 0.99}, {"real_to": 0.0, "fake_from": 1.0}])
def test_worker_and_producer_write_the_same_row_for_an_unchanged_image(
    archive: Archive, thresholds: dict[str, float]
) -> None:
    archive.fill(9)
    archive.images["s3://b/same.png"] = archive.images["s3://b/00000.png"]
    archive.sweep()
    by_producer, by_worker = archive.start(policy=Policy(**thresholds)), archive.start(policy=Policy(**thresholds))
    assert archive.publish(by_producer).published == []
    for job in messages_of(archive.refs(), scan_id=by_worker):
        moderate(job, uuid4(), archive.parts())
    own = {"partition", "scan_id", "decided_at"}
    with Session(archive.database) as session:
        rows = [
            {row.uri: row.model_dump(exclude=own) for row in session.exec(select(Finding)) if row.scan_id == scan_id}
            for scan_id in (by_producer, by_worker)
        ]
    assert len(rows[0]) == 10
    assert rows[0] == rows[1]


def test_an_answer_that_the_detectors_own_limit_cuts_off_is_reused_without_a_message(archive: Archive) -> None:
    archive.fill(9)
    parts = archive.parts(answer={"max_tokens": 12})
    first = archive.sweep(parts)
    assert any(row["cut_off"] for row in archive.rows(UUID(first["scan"])).values())
    assert archive.publish(archive.start()).published == []


def test_only_what_changed_is_published(archive: Archive) -> None:
    archive.fill(20)
    archive.sweep()
    archive.images["s3://b/00003.png"] = png(200)
    archive.fill(1, start=20)
    publisher = archive.publish(archive.start())
    assert publisher.uris == ["s3://b/00003.png", "s3://b/00020.png"]


@pytest.mark.parametrize(
    ("options", "published"),
    [
        ({}, 0),
        ({"policy": Policy(explain=Explain.NONE)}, 0),
        ({"policy": Policy(explain=Explain.ALL)}, 9),
        ({"rejudge": True}, 9),
        ({"policy": Policy(fake_from=0.01, real_to=0.01)}, 3),
    ],
)
def test_a_verdict_without_the_wanted_explanation_is_not_reused(
    archive: Archive, options: dict[str, Any], published: int
) -> None:
    """In the last case, dark images have no explanation because the answer was real, and this scan flags them."""
    archive.fill(9)
    archive.sweep()
    assert len(archive.publish(archive.start(**options)).uris) == published


def test_another_detector_reuses_nothing_and_the_one_that_started_last_counts(archive: Archive) -> None:
    archive.fill(4)
    archive.sweep()
    archive.parts(revision="2")
    assert len(archive.publish(archive.start()).uris) == 4
    archive.parts()
    assert archive.publish(archive.start()).uris == []


def test_without_an_etag_nothing_is_reused_without_a_fetch(archive: Archive) -> None:
    archive.fill(1)
    archive.sweep()
    archive.etags = False
    scan_id = archive.start()
    publisher = archive.publish(scan_id)
    assert publisher.uris == ["s3://b/00000.png"]
    archive.judge(publisher)
    assert archive.rows(scan_id)["s3://b/00000.png"]["outcome"] == "reused"  # after fetching: the same SHA-256
    archive.etags = True
    assert archive.publish(archive.start()).uris == [], "the ETag that was listed is not forgotten"


def test_rejudging_judges_each_content_once(archive: Archive) -> None:
    archive.fill(6)
    archive.sweep()
    archive.images["s3://b/twin.png"] = archive.images["s3://b/00000.png"]
    before = sum(archive.engine.calls)
    counts = archive.sweep(rejudge=True)
    assert (counts["status"], counts["judged"], counts["reused"]) == ("done", 6, 1)
    assert sum(archive.engine.calls) == before + 6
    with Session(archive.database) as session:
        assert len(session.exec(select(StoredVerdict)).all()) == 12


def test_an_object_that_is_replaced_after_listing_fails_as_changed(archive: Archive) -> None:
    archive.fill(1)
    scan_id = archive.start()
    publisher = archive.publish(scan_id)
    archive.images["s3://b/00000.png"] = png(200)
    archive.judge(publisher)
    row = archive.rows(scan_id)["s3://b/00000.png"]
    assert (row["outcome"], row["reason"], row["verdict"]) == ("failed", "changed", None)
    assert len(archive.publish(archive.start()).uris) == 1, "nothing is known about it yet"


def test_a_paused_scan_stops_and_can_be_resumed(archive: Archive) -> None:
    archive.fill(192)
    scan_id = archive.start()

    def stop() -> None:
        if len(first.published) == 6:
            scans.pause(archive.database, scan_id)

    first = InMemoryPublisher(before=stop)
    archive.publish(scan_id, first, chunk_size=64)
    assert len(first.published) == 6, "the current chunk is not finished either"
    archive.judge(first)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["judged"], counts["note"]) == ("paused", 0, "paused by hand")
    assert archive.publish(scan_id).published == []
    scans.resume(archive.database, scan_id)
    second = archive.publish(scan_id, chunk_size=64)
    assert set(second.uris) == set(archive.images)
    archive.judge(second)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["judged"]) == ("done", 192, 192)
    assert count(archive.database, Unpublished) == 0


def test_a_scan_that_is_paused_after_its_listing_can_be_resumed(archive: Archive) -> None:
    archive.fill(40)
    scan_id = archive.start()
    publisher = archive.publish(scan_id)
    scans.pause(archive.database, scan_id)
    archive.judge(publisher)
    scans.resume(archive.database, scan_id)
    second = archive.publish(scan_id)
    assert sorted(second.uris) == sorted(archive.images)
    archive.judge(second)
    assert results.progress(archive.database, scan_id)["status"] == "done"
    assert count(archive.database, Unpublished) == 0


def test_a_cancelled_scan_cannot_be_changed_any_more(archive: Archive) -> None:
    archive.fill(20)
    scan_id = archive.start()
    publisher = archive.publish(scan_id)
    scans.cancel(archive.database, scan_id)
    archive.judge(publisher)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["judged"]) == ("cancelled", 0)
    for change in (scans.pause, scans.resume, scans.cancel, scans.repair):
        with pytest.raises(ScanStateError, match="cancelled"):
            change(archive.database, scan_id)


def test_a_scan_that_flags_too_much_pauses_and_says_so(archive: Archive) -> None:
    archive.images = {f"s3://b/{n:05d}.png": png(250 if n % 2 else 5, n) for n in range(counters.LIMITS_AFTER + 64)}
    scan_id = archive.start(limits=Limits(max_flagged_share=0.4))
    publisher = archive.publish(scan_id)
    archive.judge(publisher)
    counts = results.progress(archive.database, scan_id)
    assert counts["status"] == "paused"
    assert counts["judged"] == (counters.LIMITS_AFTER // 16 + 1) * 16
    assert "504 of 1008 images are flagged" in counts["note"]
    assert "0.4" in counts["note"]
    scans.resume(archive.database, scan_id)
    archive.judge(archive.publish(scan_id))
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["note"]) == ("done", None)


def test_reused_findings_and_failures_count_towards_the_limits(archive: Archive) -> None:
    archive.images = {f"s3://b/{n:05d}.png": png(250, n) for n in range(counters.LIMITS_AFTER + 16)}
    archive.sweep(limits=Limits(None, None))
    archive.fill(16, start=90000)
    scan_id = archive.start()
    archive.publish(scan_id, chunk_size=500)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["reused"]) == ("paused", 1016), "the producer noticed it after the chunk"
    scans.resume(archive.database, scan_id, max_flagged_share=0.99)
    archive.publish(scan_id, chunk_size=500)
    assert results.progress(archive.database, scan_id)["status"] == "paused"
    for uri in list(archive.images)[: counters.LIMITS_AFTER]:
        archive.images[uri] = b"broken"
    failing = archive.sweep(limits=Limits(None, 0.5))
    assert failing["status"] == "paused"
    assert "images failed; the limit is a share of 0.5" in failing["note"]


def test_repair_publishes_what_has_no_outcome_and_nothing_else(archive: Archive) -> None:
    archive.fill(100)
    scan_id = archive.start()
    publisher = archive.publish(scan_id)
    lost = publisher.published.pop(2)[1]
    archive.judge(publisher)
    assert results.progress(archive.database, scan_id)["status"] == "running"
    scans.repair(archive.database, scan_id)
    second = archive.publish(scan_id)
    assert second.uris == [image["uri"] for image in lost["images"]]
    archive.judge(second)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["judged"]) == ("done", 100, 100)
    assert count(archive.database, Unpublished) == 0


def test_a_repair_after_objects_were_added_and_deleted_counts_exactly(archive: Archive) -> None:
    archive.fill(64)
    scan_id = archive.start()
    publisher = archive.publish(scan_id)
    publisher.published.pop(1)  # 16 images that nobody judges
    archive.judge(publisher)
    for n in range(16, 24):
        del archive.images[f"s3://b/{n:05d}.png"]
    archive.fill(5, start=64)
    scans.repair(archive.database, scan_id)
    second = archive.publish(scan_id)
    assert len(second.uris) == 8 + 5
    archive.judge(second)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["judged"]) == ("done", 61, 61)


@pytest.mark.parametrize("late", [False, True])
def test_images_that_a_repair_finds_no_longer_end_no_scan_early(archive: Archive, late: bool) -> None:
    """Their message is still in the queue. It is judged before the other images have their outcomes, or after them."""
    archive.fill(32)
    scan_id = archive.start()
    old = archive.publish(scan_id)
    for n in range(16, 32):
        del archive.images[f"s3://b/{n:05d}.png"]
    scans.repair(archive.database, scan_id)
    new = archive.publish(scan_id)
    assert results.progress(archive.database, scan_id)["listed"] == 16
    old.published.pop(0)
    for publisher in (new, old) if late else (old, new):
        archive.judge(publisher)
        counts = results.progress(archive.database, scan_id)
        decided = counts["judged"] + counts["failed"]
        assert (counts["status"] == "done") == (len(archive.rows(scan_id)) == 32 or publisher is new)
        assert counts["listed"] == (decided if counts["status"] == "done" else 32)
    assert (counts["listed"], counts["judged"], counts["failed"]) == (32, 16, 16)


def test_a_repair_remembers_only_images_without_an_outcome(archive: Archive) -> None:
    archive.fill(64)
    scan_id = archive.start()
    archive.publish(scan_id)
    scans.repair(archive.database, scan_id)
    publisher = archive.publish(scan_id, chunk_size=16)
    assert (count(archive.database, Repaired), count(archive.database, Unpublished)) == (64, 0)
    archive.judge(publisher)
    assert results.progress(archive.database, scan_id)["status"] == "done"
    assert count(archive.database, Repaired) == 0


def test_a_database_that_goes_away_for_a_moment_ends_no_producer(archive: Archive) -> None:
    archive.fill(64)
    scan_id = archive.start()
    lost: list[bool] = []

    def blink() -> None:
        if len(publisher.published) == 2 and not lost:
            lost.append(True)
            raise DatabaseUnavailableError("the server closed the connection")

    publisher = InMemoryPublisher(before=blink)
    archive.publish(scan_id, publisher, chunk_size=16)
    archive.judge(publisher)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["judged"]) == ("done", 64, 64)


def test_a_message_in_the_engine_while_its_scan_is_dropped_ends_quietly(archive: Archive) -> None:
    archive.fill(16)
    scan_id = archive.start()
    publisher = archive.publish(scan_id)

    def drop(_image: Image.Image) -> None:
        if results.progress(archive.database, scan_id)["status"] != "cancelled":
            scans.cancel(archive.database, scan_id)
            retention.drop_scan(archive.database, scan_id)

    archive.engine = ScriptedEngine(fail=drop)
    archive.judge(publisher)
    assert archive.engine.calls == [16], "judged once, and not again one by one"
    assert results.progress(archive.database, scan_id)["judged"] == 0


def test_a_repair_while_workers_judge_counts_no_image_twice(archive: Archive) -> None:
    archive.fill(192)
    scan_id = archive.start()
    publisher = archive.publish(scan_id)
    scans.repair(archive.database, scan_id)
    parts = archive.parts()

    def judge_one() -> None:
        if publisher.published:
            moderate(JudgeImages.parse(publisher.published.pop()[1]), uuid4(), parts)

    second = InMemoryPublisher(before=judge_one)
    archive.publish(scan_id, second, chunk_size=64)
    archive.judge(publisher)
    archive.judge(second)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["judged"]) == ("done", 192, 192)


def test_a_scan_of_standard_input_cannot_be_repaired(archive: Archive) -> None:
    scan = scans.start_scan(archive.database, scans.Listing(sources=("-",)))
    with pytest.raises(ScanStateError, match="standard input"):
        scans.repair(archive.database, scan.id)


def test_a_repair_that_is_killed_can_be_continued(archive: Archive) -> None:
    archive.fill(192)
    scan_id = archive.start()
    archive.publish(scan_id)
    scans.repair(archive.database, scan_id)
    dying = InMemoryPublisher(fail_after=7)
    with pytest.raises(BrokerUnavailableError):
        archive.publish(scan_id, dying, chunk_size=64)
    assert results.progress(archive.database, scan_id)["status"] == "repairing"
    again = archive.publish(scan_id, chunk_size=64)
    assert set(dying.uris) | set(again.uris) == set(archive.images)
    assert len(again.uris) == 128, "the first chunk is not published again"
    archive.judge(dying)
    archive.judge(again)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["judged"]) == ("done", 192, 192)


def test_a_finished_scan_can_be_repaired_and_is_done_again(archive: Archive) -> None:
    archive.fill(32)
    counts = archive.sweep()
    scan_id = UUID(counts["scan"])
    with Session(archive.database) as session:
        session.exec(delete(Finding).where(col(Finding.uri) == "s3://b/00007.png"))
        session.get_one(Scan, scan_id).judged -= 1
        session.commit()
    scans.repair(archive.database, scan_id)
    publisher = archive.publish(scan_id)
    assert publisher.uris == [], "it is known by its ETag"
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["judged"], counts["reused"]) == ("done", 32, 31, 1)


def test_rate_and_time_left(archive: Archive) -> None:
    archive.fill(64)
    scan_id = archive.start()
    publisher = archive.publish(scan_id)
    publisher.published = publisher.published[:2]
    archive.judge(publisher)
    counts = results.progress(archive.database, scan_id)
    assert counts["rate"] > 1
    assert counts["eta_s"] == pytest.approx(32 / counts["rate"], abs=1)
    assert counts["share_flagged"] == pytest.approx(11 / 32)
    assert counts["share_failed"] == 0


def test_the_history_of_a_uri(archive: Archive) -> None:
    archive.fill(6)
    archive.sweep()
    archive.sweep()
    history = results.history(archive.database, "s3://b/00000.png")
    assert [row["outcome"] for row in history] == ["reused", "judged"]
    assert len({row["scan"] for row in history}) == 2
