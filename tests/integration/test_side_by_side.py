"""Chunks whose images are all known are compared side by side, with the same result as one after the other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlmodel import Session

from producers.listing import Page
from producers.publishing import publish_scan
from producers.reporting import results
from producers.scans import find_scan
from producers.testing import InMemoryPublisher, InMemorySource
from tests.integration.test_scans import Archive, count, png
from tests.processes import wait_for
from worker.database import Database, transaction
from worker.errors import BrokerUnavailableError, SourceError
from worker.tables import Unpublished

CHUNK = 16
NEW_CHUNKS = (4, 6, 7, 9, 10, 11, 15)
"""Which of 16 chunks have new images: a single one, two and three in a row, and the last one."""

INSERT = text(
    "INSERT INTO findings (partition, scan_id, uri, outcome, reason, attempts)"
    " SELECT partition, id, :uri, 'failed', 'corrupt', 1 FROM scans WHERE id = :id"
)


@pytest.fixture
def archive(database: Database) -> Archive:
    return Archive(database)


@pytest.mark.parametrize("limit", range(len(NEW_CHUNKS) + 1))
def test_a_producer_that_ends_between_chunks_loses_and_repeats_nothing(archive: Archive, limit: int) -> None:
    archive.fill(16 * CHUNK)
    new = {uri: archive.images.pop(uri) for n, uri in enumerate(sorted(archive.images)) if n // CHUNK in NEW_CHUNKS}
    archive.sweep()
    archive.images = dict(sorted((archive.images | new).items()))
    scan_id, dying = archive.start(), InMemoryPublisher(fail_after=limit)
    if limit < len(NEW_CHUNKS):
        with pytest.raises(BrokerUnavailableError):
            archive.publish(scan_id, dying, chunk_size=CHUNK)
    again = archive.publish(scan_id, dying if limit == len(NEW_CHUNKS) else None, chunk_size=CHUNK)
    assert set(dying.uris) | set(again.uris) == set(new)
    archive.judge(dying)
    archive.judge(again)
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"]) == ("done", len(archive.images))
    assert (counts["judged"], counts["reused"]) == (len(new), len(archive.images) - len(new))
    assert set(archive.rows(scan_id)) == set(archive.images)
    assert count(archive.database, Unpublished) == 0


class BreakingOff(InMemorySource):
    """A source that fails after 48 refs."""

    def pages(self, cursor: str | None) -> Iterator[Page]:
        for page in super().pages(cursor):
            yield page
            if page.cursor == str(3 * CHUNK):
                raise SourceError("it cannot be read further")


def known_but_for_the_third_chunk(archive: Archive, chunks: int) -> set[str]:
    """Fills the archive with known images, except in the third chunk. Returns the uris of that chunk."""
    archive.fill(chunks * CHUNK)
    new = {uri: archive.images.pop(uri) for uri in sorted(archive.images)[2 * CHUNK : 3 * CHUNK]}
    archive.sweep()
    archive.images = dict(sorted((archive.images | new).items()))
    return set(new)


def test_what_was_read_before_a_source_fails_is_published(archive: Archive) -> None:
    new = known_but_for_the_third_chunk(archive, 4)
    publisher, listed = InMemoryPublisher(), list[int]()
    with pytest.raises(SourceError):
        publish_scan(
            publisher, archive.database, archive.start(), chunk_size=CHUNK, listed=listed.append,
            opened=lambda _sources, rules, _warn: BreakingOff(archive.refs(), rules),
        )  # fmt: skip
    assert set(publisher.uris) == new
    assert listed == [CHUNK, 2 * CHUNK, 3 * CHUNK]


def test_committing_the_next_chunk_keeps_a_message_that_is_not_published(archive: Archive) -> None:
    new = known_but_for_the_third_chunk(archive, 5)
    scan_id, kept = archive.start(), list[int]()

    def next_one_is_committed() -> bool:
        with transaction(archive.database) as session:
            return find_scan(session, scan_id).cursor == str(4 * CHUNK)

    with Session(archive.database) as other:
        # The fourth chunk waits for this image until the third one is about to be published.
        other.execute(INSERT, {"uri": sorted(archive.images)[3 * CHUNK], "id": scan_id})

        def before() -> None:
            other.rollback()
            wait_for(next_one_is_committed, 30)
            kept.append(count(archive.database, Unpublished))

        publisher = archive.publish(scan_id, InMemoryPublisher(before=before), chunk_size=CHUNK)
    assert set(publisher.uris) == new
    assert kept == [1]
    assert count(archive.database, Unpublished) == 0


def test_a_deadlock_that_postgres_does_not_see_ends(archive: Archive) -> None:
    """Another producer holds an image of the second chunk and waits for the third, which waits here for the second."""
    archive.fill(4 * CHUNK)
    archive.sweep()
    scan_id, uris = archive.start(), sorted(archive.images)
    with ThreadPoolExecutor(1) as thread, Session(archive.database) as other:
        other.execute(text("SET LOCAL statement_timeout = '60s'"))
        other.execute(INSERT, {"uri": uris[CHUNK], "id": scan_id})
        publishing = thread.submit(archive.publish, scan_id, chunk_size=CHUNK)
        wait_for(lambda: _side_by_side(archive.database), 30)
        other.execute(INSERT, {"uri": uris[2 * CHUNK], "id": scan_id})
        other.rollback()
        assert publishing.result().published == []
    counts = results.progress(archive.database, scan_id)
    assert (counts["status"], counts["listed"], counts["reused"]) == ("done", 4 * CHUNK, 4 * CHUNK)


def _side_by_side(database: Database) -> bool:
    """Whether one chunk waits for a lock, and another one for that chunk."""
    sessions = text(
        "SELECT bool_or(wait_event_type = 'Lock') AND bool_or(state = 'idle in transaction' AND query LIKE 'RELEASE%')"
        " FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'fakesweep%'"
    )
    with Session(database) as session:
        return bool(session.execute(sessions).scalar())


def test_names_and_ids_of_known_images_are_kept_unchanged(archive: Archive) -> None:
    names = ["a\tb", "a\nb", "a\\b", "a\\u0000", '"', "'", "{}", "[null]", "null"]
    names += ["\x01\x1f\x7f", "\u2028", "ü", "u\u0308", "😀"]
    archive.images = {f"s3://b/{name}": png(250, n) for n, name in enumerate(names)}
    archive.sweep()
    scan_id = archive.start()
    assert archive.publish(scan_id).published == []
    rows = archive.rows(scan_id)
    assert {uri: (row["outcome"], row["external_id"]) for uri, row in rows.items()} == {
        uri: ("reused", f"post {uri}") for uri in archive.images
    }


def test_a_finding_that_exists_already_stays_and_is_not_counted(archive: Archive) -> None:
    archive.fill(9)
    archive.sweep()
    scan_id, uris = archive.start(), sorted(archive.images)
    with transaction(archive.database) as session:
        session.execute(INSERT, {"uri": uris[4], "id": scan_id})
    assert archive.publish(scan_id).published == []
    counts = results.progress(archive.database, scan_id)
    assert (counts["reused"], counts["fake"] + counts["real"] + counts["uncertain"]) == (8, 8)
    assert {uri: row["outcome"] for uri, row in archive.rows(scan_id).items() if row["outcome"] == "failed"} == {
        uris[4]: "failed"
    }
