"""Old findings are dropped, and everything else must stay."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text, update
from sqlmodel import Session, col

from producers import retention, reviews, scans
from producers.reporting import results
from tests.integration.test_scans import Archive
from tests.processes import fakesweep
from worker.database import Database, partitions, transaction
from worker.errors import DatabaseUnavailableError, LockedError, NoSuchScanError, ScanStateError
from worker.messages import JudgeImages
from worker.moderate import moderate
from worker.tables import Review, Scan, ScanStatus, Suspect, Unpublished

NOW = datetime(2026, 7, 15, 12, tzinfo=UTC)
ACTIVE = ["listing", "repairing", "running", "paused"]


@pytest.fixture
def archive(database: Database) -> Archive:
    made = Archive(database)
    made.fill(6)
    return made


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def change(database: Database, scan_id: UUID, **values: Any) -> None:
    with transaction(database) as session:
        session.execute(update(Scan).where(col(Scan.id) == scan_id).values(**values))


def swept(archive: Archive, ended: datetime, **more: Any) -> UUID:
    """A scan that ended at this time, with all rows that a scan may leave behind."""
    scan_id = UUID(archive.sweep()["scan"])
    change(archive.database, scan_id, finished_at=ended, created_at=ended, **more)
    remember(archive.database, scan_id)
    return scan_id


def remember(database: Database, scan_id: UUID, uri: str = "s3://b/00001.png") -> None:
    reviews.add_reviewer(database, "r1")
    with transaction(database) as session:
        session.add(Suspect(scan_id=scan_id, uri="s3://b/00001.png"))
        session.add(Unpublished(scan_id=scan_id, messages=[]))
        session.add(Review(scan_id=scan_id, uri=uri, statement="real", reviewer="r1"))


def submitted(archive: Archive, partition: str, ended: datetime, uri: str) -> UUID:
    """A submission that was judged in that month."""
    scan_id = uuid4()
    with transaction(archive.database) as session:
        partitions.ensure_partition(session, partition)
        values: dict[str, Any] = {
            "name": "submission",
            "source": "test",
            "policy": {},
            "status": ScanStatus.RUNNING,
            "listed": 1,
        }
        session.add(Scan(id=scan_id, kind="live", partition=partition, **values))
    moderate(JudgeImages.parse({"scan_id": str(scan_id), "images": [{"uri": uri}]}), uuid4(), archive.parts())
    change(archive.database, scan_id, finished_at=ended, created_at=ended)
    remember(archive.database, scan_id, uri)
    return scan_id


def count(database: Database, table: str, scan_id: UUID | None = None) -> int:
    where = f" WHERE scan_id = '{scan_id}'" if scan_id else ""
    with Session(database) as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}{where}")).scalar_one())


def partition_tables(database: Database) -> set[str]:
    """Every table that holds findings, attached or not."""
    with Session(database) as session:
        return set(
            session.execute(
                text(
                    "SELECT relname FROM pg_class WHERE relname ~ '^findings_(scan|live).*[0-9a-f]$' AND relkind = 'r'"
                )
            ).scalars()
        )


def drop_older(database: Database, days: int) -> list[str]:
    before = days_ago(days)
    found = retention.droppable(database, before)
    for one in found:
        retention.drop_partition(database, one.partition, before)
    return [one.partition for one in found]


def row(database: Database, scan_id: UUID) -> Scan:
    with Session(database) as session:
        return session.get_one(Scan, scan_id)


def kept(database: Database) -> dict[str, Any]:
    """A checksum of each table that retention never changes."""
    with Session(database) as session:
        return {
            table: session.execute(
                text(f"SELECT md5(string_agg({table}::text, '|' ORDER BY {table}::text)) FROM {table}")
            ).scalar()
            for table in ("verdicts", "objects", "reviews", "detectors")
        }


def test_old_findings_go_and_everything_else_stays(archive: Archive) -> None:
    database = archive.database
    old, young = swept(archive, days_ago(91)), swept(archive, days_ago(89))
    before, progress, young_rows = kept(database), results.progress(database, old), archive.rows(young)
    assert drop_older(database, 90) == [f"scan_{old.hex}"]
    assert kept(database) == before
    assert count(database, "verdicts") == 6
    assert results.progress(database, old) == progress
    assert row(database, old).dropped_at is not None
    assert partition_tables(database) == {f"findings_scan_{young.hex}"}
    assert archive.rows(young) == young_rows
    for table in ("findings", "suspects", "unpublished"):
        assert (count(database, table, old), count(database, table, young) > 0) == (0, True)
    assert row(database, young).dropped_at is None
    assert drop_older(database, 90) == []


def test_verdicts_of_a_dropped_scan_are_reused(archive: Archive) -> None:
    swept(archive, days_ago(91))
    drop_older(archive.database, 90)
    assert archive.sweep()["reused"] == 6


@pytest.mark.parametrize("status", ACTIVE)
def test_a_scan_that_has_not_ended_is_kept_however_old(archive: Archive, status: str) -> None:
    scan_id = swept(archive, days_ago(1000), status=status)
    assert drop_older(archive.database, 1) == []
    with pytest.raises(ScanStateError, match=f"is {status}: cancel it first"):
        retention.drop_scan(archive.database, scan_id)
    with pytest.raises(ScanStateError, match="at work again"):
        retention.drop_partition(archive.database, f"scan_{scan_id.hex}", NOW)
    assert (count(archive.database, "findings"), count(archive.database, "suspects")) == (6, 1)
    assert row(archive.database, scan_id).dropped_at is None


def test_a_scan_that_was_repaired_after_the_search_is_kept(archive: Archive) -> None:
    scan_id = swept(archive, days_ago(91))
    (found,) = retention.droppable(archive.database, days_ago(90))
    change(archive.database, scan_id, finished_at=NOW)
    with pytest.raises(ScanStateError, match="or was at work recently"):
        retention.drop_partition(archive.database, found.partition, days_ago(90))
    assert count(archive.database, "findings") == 6


def test_a_cancelled_scan_is_as_old_as_its_last_outcome(archive: Archive) -> None:
    scan_id = swept(archive, days_ago(200), status="cancelled")
    change(archive.database, scan_id, finished_at=None, counted_at=days_ago(89))
    assert drop_older(archive.database, 90) == []
    assert drop_older(archive.database, 88) == [f"scan_{scan_id.hex}"]


def test_submissions_are_dropped_by_month(archive: Archive) -> None:
    may = submitted(archive, "live_2026_05", datetime(2026, 5, 31, 23, 59, tzinfo=UTC), "s3://b/00000.png")
    june = submitted(archive, "live_2026_06", datetime(2026, 6, 1, 0, 1, tzinfo=UTC), "s3://b/00001.png")
    assert drop_older(archive.database, 45) == [], "45 days before 15 July is 31 May, so May is not over"
    (found,) = retention.droppable(archive.database, days_ago(30))
    assert str(found) == "1 findings of 1 submissions of 2026-05"
    assert drop_older(archive.database, 30) == ["live_2026_05"], (
        "June's submission is older than that, but June is not over"
    )
    assert row(archive.database, may).dropped_at is not None
    assert row(archive.database, june).dropped_at is None
    assert partition_tables(archive.database) == {"findings_live_2026_06"}
    assert (count(archive.database, "suspects"), count(archive.database, "reviews")) == (1, 2)


@pytest.mark.parametrize("status", ["running", "paused"])
def test_a_submission_that_is_stuck_keeps_its_month_for_as_long_as_findings_are_kept(
    archive: Archive, status: str
) -> None:
    database, may = archive.database, datetime(2026, 5, 20, tzinfo=UTC)
    ended = submitted(archive, "live_2026_05", may, "s3://b/00000.png")
    stuck = submitted(archive, "live_2026_05", may, "s3://b/00001.png")
    change(database, stuck, status=status, finished_at=None, counted_at=days_ago(29))
    assert drop_older(database, 30) == [], "it moved lately"
    (held,) = retention.held_back(database, days_ago(30))
    assert (held.partition, held.held_by) == ("live_2026_05", f"{stuck} is still {status}")
    with pytest.raises(ScanStateError, match="at work again"):
        retention.drop_partition(database, "live_2026_05", days_ago(30))
    change(database, stuck, counted_at=days_ago(31))
    assert retention.held_back(database, days_ago(30)) == []
    assert drop_older(database, 30) == ["live_2026_05"]
    assert None not in {row(database, ended).dropped_at, row(database, stuck).dropped_at}
    assert partition_tables(database) == set()


def test_a_message_of_a_stuck_submission_is_ignored_after_the_drop(archive: Archive) -> None:
    stuck = submitted(archive, "live_2026_05", datetime(2026, 5, 20, tzinfo=UTC), "s3://b/00000.png")
    change(archive.database, stuck, status="running", finished_at=None, listed=2, counted_at=None)
    drop_older(archive.database, 30)
    message = JudgeImages.parse({"scan_id": str(stuck), "images": [{"uri": "s3://b/00001.png"}]})
    moderate(message, uuid4(), archive.parts())
    assert count(archive.database, "findings") == 0


def test_only_old_scans_that_have_not_ended_are_held_back(archive: Archive) -> None:
    database = archive.database
    swept(archive, days_ago(91))
    young = swept(archive, days_ago(91), status="running")
    change(database, young, finished_at=None, counted_at=days_ago(1))
    repaired = submitted(archive, "live_2026_03", days_ago(1), "s3://b/00000.png")
    paused = swept(archive, days_ago(92), status="paused")
    assert row(database, repaired).status == "done"
    assert [held.scan_id for held in retention.held_back(database, days_ago(90))] == [str(paused)]


def test_a_single_submission_is_deleted_from_its_month(archive: Archive) -> None:
    first = submitted(archive, "live_2026_05", days_ago(50), "s3://b/00000.png")
    second = submitted(archive, "live_2026_05", days_ago(50), "s3://b/00001.png")
    retention.drop_scan(archive.database, first)
    assert (count(archive.database, "findings", first), count(archive.database, "findings", second)) == (0, 1)
    dropped_at = row(archive.database, first).dropped_at
    assert dropped_at is not None
    (month,) = retention.droppable(archive.database, days_ago(20))
    assert (month.scans, month.findings) == (1, 1)
    drop_older(archive.database, 20)
    assert row(archive.database, first).dropped_at == dropped_at


def test_one_scan_is_dropped_once(archive: Archive) -> None:
    scan_id, other = swept(archive, NOW), swept(archive, NOW)
    assert retention.drop_scan(archive.database, scan_id).judged == 6
    assert partition_tables(archive.database) == {f"findings_scan_{other.hex}"}
    assert count(archive.database, "suspects") == 1
    with pytest.raises(ScanStateError, match="were dropped at"):
        retention.drop_scan(archive.database, scan_id)
    with pytest.raises(ScanStateError, match=r"dropped at .*; verdicts and reviews are kept"):
        next(results.rows(archive.database, scan_id))
    with pytest.raises(ScanStateError):
        scans.repair(archive.database, scan_id)
    with pytest.raises(NoSuchScanError):
        retention.drop_scan(archive.database, uuid4())


@contextmanager
def reading(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Another session that reads findings and does not end its transaction: a report, or a forgotten psql."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT count(*) FROM findings")
        yield connection


def test_a_drop_gives_up_soon_on_a_lock_and_then_has_changed_nothing(archive: Archive, database_url: str) -> None:
    scan_id = swept(archive, days_ago(91))
    before = partition_tables(archive.database)
    with reading(database_url):
        for drop in (
            lambda: retention.drop_partition(archive.database, f"scan_{scan_id.hex}", NOW, attempts=2, lock_s=0.2),
            lambda: retention.drop_scan(archive.database, scan_id, attempts=2, lock_s=0.2),
        ):
            with pytest.raises(LockedError, match="another session"):
                drop()
        assert (partition_tables(archive.database), row(archive.database, scan_id).dropped_at) == (before, None)
        assert (count(archive.database, "findings"), count(archive.database, "suspects")) == (6, 1)
    retention.drop_scan(archive.database, scan_id)


def test_a_drop_is_tried_again_until_the_lock_is_gone(archive: Archive, database_url: str) -> None:
    scan_id = swept(archive, days_ago(91))
    with reading(database_url) as connection:
        timer = threading.Timer(0.5, connection.rollback)
        timer.start()
        retention.drop_scan(archive.database, scan_id, attempts=10, lock_s=0.2)
        timer.join()
    assert partition_tables(archive.database) == set()


def test_a_drop_that_fails_leaves_the_partition_attached(archive: Archive) -> None:
    """The table is detached but cannot be dropped, because a view needs it. So the detaching is undone."""
    scan_id = swept(archive, days_ago(91))
    with archive.database.begin() as connection:
        connection.execute(text(f"CREATE VIEW needs_it AS SELECT uri FROM findings_scan_{scan_id.hex}"))
    with pytest.raises(DatabaseUnavailableError, match="other objects depend on it"):
        drop_older(archive.database, 90)
    assert count(archive.database, "findings", scan_id) == 6
    assert row(archive.database, scan_id).dropped_at is None


def test_the_commands(archive: Archive, database_url: str, tmp_path: Path) -> None:
    environment = {"DATABASE_URL": database_url}
    real_now = datetime.now(UTC)
    old, locked = swept(archive, real_now - timedelta(days=8)), swept(archive, real_now - timedelta(days=7.5))
    running = archive.start()
    paused = swept(archive, real_now - timedelta(days=9), status="paused")
    change(archive.database, paused, finished_at=None, counted_at=real_now - timedelta(days=9))
    dry = fakesweep("retention", "--keep-days", "7", "--dry-run", environment=environment)
    assert dry.returncode == 0, dry.stderr
    ended = f"{real_now - timedelta(days=8):%Y-%m-%d}"
    lines = dry.stdout.splitlines()
    assert lines[0] == f"would drop 6 findings of scan {old} (s3://b/), ended {ended}"
    last_moved = f"{real_now - timedelta(days=9):%Y-%m-%d}"
    what = f"kept 6 findings of scan {paused} (s3://b/), last moved {last_moved}"
    assert lines[2:] == [f"{what}: scan {paused} is still paused; cancel it, or let it end"]
    assert count(archive.database, "findings") == 18
    done = fakesweep("retention", "--keep-days", "7", "--yes", environment=environment)
    assert (done.returncode, done.stdout) == (0, dry.stdout.replace("would drop", "dropped"))
    assert partition_tables(archive.database) == {f"findings_scan_{running.hex}", f"findings_scan_{paused.hex}"}
    for command in (("results", str(old)), ("report", str(old), "--output", str(tmp_path / "r.html"))):
        refused = fakesweep(*command, environment=environment)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
        assert "its findings were dropped at" in refused.stderr
    refused = fakesweep("drop", str(running), environment=environment)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "is listing" in refused.stderr
    scans.cancel(archive.database, running)
    done = fakesweep("drop", str(running), "--yes", environment=environment)
    assert (done.returncode, done.stdout) == (0, f"dropped 0 findings of scan {running} (s3://b/)\n")
    for arguments in ((), ("--keep-days", "0")):
        assert fakesweep("retention", *arguments, environment=environment).returncode == 2
    assert row(archive.database, locked).dropped_at is not None


def test_locked_findings_are_skipped_and_named(archive: Archive, database_url: str) -> None:
    scan_id = swept(archive, datetime.now(UTC) - timedelta(days=8))
    with reading(database_url):
        skipped = fakesweep("retention", "--keep-days", "7", "--yes", environment={"DATABASE_URL": database_url})
    assert (skipped.returncode, skipped.stdout, skipped.stderr.count("\n")) == (1, "", 1)
    assert skipped.stderr.startswith(f"skipped 6 findings of scan {scan_id}")
    assert "another session holds a lock" in skipped.stderr
