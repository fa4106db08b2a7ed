"""Scans that record changes: an unchanged image leaves no finding, and is only counted."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlmodel import Session

from producers import scans
from producers.reporting import contents, results
from producers.testing import InMemoryPublisher
from tests.integration.test_scans import Archive, png
from worker.database import Database
from worker.messages import Explain, JudgeImages, Policy, Record
from worker.moderate import moderate

COUNTS = ("listed", "judged", "reused", "unchanged", "failed")


@pytest.fixture
def archive(database: Database) -> Archive:
    made = Archive(database)
    made.fill(40)
    return made


def tonight(archive: Archive, policy: Policy | None = None) -> tuple[str, tuple[int, ...], list[str]]:
    """A scan that records changes: its id, its counts, and the uris that have a finding."""
    found = archive.sweep(record=Record.CHANGES, policy=policy)
    assert found["status"] == "done"
    assert found["judged"] + found["reused"] + found["unchanged"] + found["failed"] == found["listed"]
    return found["scan"], tuple(found[name] for name in COUNTS), sorted(archive.rows(UUID(found["scan"])))


def test_the_first_night_records_all_images_and_the_second_one_none(archive: Archive) -> None:
    assert tonight(archive)[1] == (40, 40, 0, 0, 0)
    publisher = InMemoryPublisher()
    scan_id = archive.start(record=Record.CHANGES)
    archive.publish(scan_id, publisher)
    counts = results.progress(archive.database, scan_id)
    assert tuple(counts[name] for name in COUNTS) == (40, 0, 0, 40, 0)
    assert (counts["status"], publisher.published, archive.rows(scan_id)) == ("done", [], {})


def test_only_what_is_new_or_replaced_is_recorded(archive: Archive) -> None:
    tonight(archive)
    archive.images["s3://b/00003.png"] = png(250, 9999)
    archive.images["s3://b/new.png"] = png(5, 8888)
    del archive.images["s3://b/00004.png"]
    _, counts, uris = tonight(archive)
    assert (counts, uris) == ((40, 2, 0, 38, 0), ["s3://b/00003.png", "s3://b/new.png"])
    assert tonight(archive)[1:] == ((40, 0, 0, 40, 0), [])


def test_a_known_content_at_a_new_place_is_recorded(archive: Archive) -> None:
    tonight(archive)
    archive.images["s3://b/copy.png"] = archive.images["s3://b/00000.png"]
    assert tonight(archive)[1:] == ((41, 0, 1, 40, 0), ["s3://b/copy.png"])
    assert tonight(archive)[1:] == ((41, 0, 0, 41, 0), [])


def test_other_thresholds_record_the_images_whose_verdict_they_change(archive: Archive) -> None:
    """Grey level 128 has the score 0.50: uncertain, until a scan calls every score from 0.4 on fake."""
    tonight(archive)
    _, counts, uris = tonight(archive, Policy(fake_from=0.4))
    grey = [f"s3://b/{n:05d}.png" for n in range(40) if n % 3 == 2]
    assert (counts, uris) == ((40, 0, len(grey), 40 - len(grey), 0), grey)
    assert tonight(archive, Policy(fake_from=0.4))[1:] == ((40, 0, 0, 40, 0), [])


def test_another_detector_records_all_images(archive: Archive) -> None:
    tonight(archive)
    again = archive.sweep(archive.parts(), record=Record.CHANGES)
    assert again["unchanged"] == 40
    newer = archive.parts(revision="2")
    assert archive.sweep(newer, record=Record.CHANGES)["judged"] == 40
    assert archive.sweep(newer, record=Record.CHANGES)["unchanged"] == 40


def test_a_copy_that_another_detector_judged_elsewhere_is_recorded(archive: Archive) -> None:
    archive.images["s3://b/a-copy.png"] = archive.images["s3://b/00000.png"]
    tonight(archive)
    newer = archive.parts(revision="2")
    for uri in list(archive.images):
        if uri != "s3://b/00000.png":
            del archive.images[uri]
    archive.sweep(newer, record=Record.CHANGES)
    archive.images["s3://b/a-copy.png"] = archive.images["s3://b/00000.png"]
    night = archive.sweep(newer, record=Record.CHANGES)
    assert [night[name] for name in COUNTS] == [2, 0, 1, 1, 0]
    standing = [row for row in contents.flagged(archive.database, contents.Wanted(), 100) if not row["superseded"]]
    assert [row["places"] for row in standing if row["first_flagged_uri"] == "s3://b/00000.png"] == [2]


def test_after_a_roll_back_the_older_detectors_verdicts_count_again(archive: Archive) -> None:
    tonight(archive)
    archive.sweep(archive.parts(revision="2"), record=Record.CHANGES)
    back = archive.sweep(archive.parts(), record=Record.CHANGES)
    assert [back[name] for name in COUNTS] == [40, 0, 40, 0, 0]
    with Session(archive.database) as session:
        standing = session.execute(text("SELECT DISTINCT detector_id FROM review_queue")).scalars().all()
    assert standing == [1]
    assert archive.sweep(archive.parts(), record=Record.CHANGES)["unchanged"] == 40


def test_a_failure_is_recorded_every_night(archive: Archive) -> None:
    archive.images["s3://b/text.png"] = b"text"
    tonight(archive)
    assert tonight(archive)[1:] == ((41, 0, 0, 40, 1), ["s3://b/text.png"])


def test_a_scan_that_records_all_changes_nothing_for_the_next_night(archive: Archive) -> None:
    tonight(archive)
    audit = archive.sweep()
    assert (audit["record"], audit["reused"], audit["unchanged"]) == ("all", 40, 0)
    assert tonight(archive)[1] == (40, 0, 0, 40, 0)


def test_a_repair_counts_unchanged_images_once(archive: Archive) -> None:
    tonight(archive)
    archive.images["s3://b/new.png"] = png(5, 8888)
    scan, counts, _ = tonight(archive)
    assert counts == (41, 1, 0, 40, 0)
    archive.images["s3://b/newer.png"] = png(250, 7777)
    scans.repair(archive.database, UUID(scan))
    archive.judge(archive.publish(UUID(scan)))
    repaired = results.progress(archive.database, UUID(scan))
    assert (repaired["status"], *(repaired[name] for name in COUNTS)) == ("done", 42, 2, 0, 40, 0)


def test_a_repair_counts_no_image_twice_if_its_message_comes_late(archive: Archive) -> None:
    tonight(archive)
    archive.images["s3://b/new.png"] = png(5, 8888)
    scan_id = archive.start(record=Record.CHANGES)
    waiting = archive.publish(scan_id)
    assert waiting.uris == ["s3://b/new.png"]
    moderate(JudgeImages(images=(archive.refs()[-1],)), uuid4(), archive.parts())
    scans.repair(archive.database, scan_id)
    archive.judge(archive.publish(scan_id))
    archive.judge(waiting)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], *(counts[name] for name in COUNTS)) == ("done", 41, 0, 1, 40, 0)


def test_a_repair_counts_no_image_twice_if_its_verdict_came_from_a_copy(archive: Archive) -> None:
    tonight(archive)
    scan_id = archive.start(record=Record.CHANGES, policy=Policy(explain=Explain.ALL))
    waiting = archive.publish(scan_id)
    archive.images["s3://b/copy.png"] = archive.images["s3://b/00001.png"]
    moderate(JudgeImages(images=(archive.refs()[-1],), explain=Explain.ALL), uuid4(), archive.parts())
    del archive.images["s3://b/copy.png"]
    scans.repair(archive.database, scan_id)
    archive.judge(archive.publish(scan_id))
    archive.judge(waiting)
    counts = results.progress(archive.database, scan_id)
    assert counts["status"] == "done"
    assert counts["judged"] + counts["reused"] + counts["unchanged"] + counts["failed"] == counts["listed"] == 40


def test_without_etags_verdicts_are_reused_by_content(archive: Archive) -> None:
    archive.etags = False
    tonight(archive)
    assert tonight(archive)[1] == (40, 0, 40, 0, 0)


def test_the_flagged_contents_of_a_night_are_the_new_ones(archive: Archive) -> None:
    first = tonight(archive)[0]
    fakes = sum(n % 3 == 0 for n in range(40))
    assert len(contents.flagged(archive.database, contents.Wanted(scan_id=UUID(first)), 100)) == fakes
    archive.images["s3://b/new.png"] = png(250, 8888)
    archive.images["s3://b/copy.png"] = archive.images["s3://b/new.png"]
    second = tonight(archive)[0]
    (new,) = contents.flagged(archive.database, contents.Wanted(scan_id=UUID(second)), 100)
    assert (new["places"], new["first_flagged_scan_id"], new["verdict"]) == (2, second, "fake")
    assert len(contents.flagged(archive.database, contents.Wanted(), 100)) == fakes + 1
    with Session(archive.database) as session:
        started = session.execute(text("SELECT created_at FROM scans WHERE id = :id"), {"id": second}).scalar_one()
    assert contents.flagged(archive.database, contents.Wanted(since=started), 100) == [new]
