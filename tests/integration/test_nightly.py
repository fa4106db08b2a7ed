"""Nightly scans: when they start, what starts them again, and what Sentry hears of it. Tests set the clock."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sentry_sdk
from celery import Celery
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport
from sqlalchemy import delete, select, text, update
from sqlmodel import col
from structlog.testing import capture_logs

from producers import publishing, scans
from producers.nightly.checkins import CheckIns
from producers.nightly.children import Child, Children
from producers.nightly.nightly import NightlyScheduler
from producers.nightly.nightly_lock import KEY, NightlyLock
from producers.nightly.schedule import NightlyScan
from producers.testing import InMemoryPublisher
from tests.conftest import empty_queues
from tests.integration.test_broker import grey, query, settings_for, worker
from tests.processes import ROOT, RunningWorker, fakesweep, wait_for
from worker.database import Database, connect, transaction
from worker.database.events import events as recorded
from worker.errors import DatabaseUnavailableError
from worker.tables import Scan, ScanStatus, Unpublished

PHOTOS = NightlyScan.model_validate(
    {"crontab": "0 2 * * *", "source": "s3://photos/", "fake_from": 0.7, "suffixes": [".jpg"], "rejudge": True}
)
NO_BROKER = "amqp://127.0.0.1:9//"
"""Only the children use the broker, so beat does not wait for one that is away."""
TOLD = {
    "schedule": {"type": "crontab", "value": "0 2 * * *"},
    "timezone": "UTC",
    "checkin_margin": 15,
    "max_runtime": 1440,
}

Logs = Sequence[MutableMapping[str, Any]]


class FakeChild:
    """A process that lives until the test ends it."""

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.code = -signal.SIGTERM

    kill = terminate

    def wait(self, timeout: float | None = None) -> int:
        assert self.code is not None, f"it would not end within {timeout}"
        return self.code


@dataclass
class Night:
    """A scheduler, the time, and the children that were started, in order."""

    database: Database
    now: datetime = datetime(2026, 7, 1, 1, 0, tzinfo=UTC)
    nightly: dict[str, NightlyScan] = field(default_factory=lambda: {"photos": PHOTOS})
    spawned: list[tuple[UUID, FakeChild]] = field(default_factory=list)
    before_now: Callable[[], None] = lambda: None
    key: int = KEY

    def __post_init__(self) -> None:
        self.lock = NightlyLock(self.database, self.key)
        self.begin()

    def begin(self) -> None:
        """Starts a scheduler, as a new process does after the last one was killed."""
        self.lock.release()
        self.scheduler = NightlyScheduler(
            Celery("test", broker=NO_BROKER, set_as_current=False),
            nightly=self.nightly, database=self.database, clock=self.clock,
            children=Children(self.clock, self.spawn), checkins=CheckIns("UTC", self.clock), lock=self.lock,
        )  # fmt: skip

    def clock(self) -> datetime:
        self.before_now()
        return self.now

    def spawn(self, scan_id: UUID) -> Child:
        self.spawned.append((scan_id, FakeChild()))
        return self.spawned[-1][1]

    def at(self, text: str) -> Logs:
        """Ticks at this time, as often as beat does. Returns what was logged."""
        self.now = datetime.fromisoformat(text).replace(tzinfo=UTC)
        return self.tick()

    def after(self, seconds: float) -> Logs:
        self.now += timedelta(seconds=seconds)
        return self.tick()

    def tick(self) -> Logs:
        with capture_logs() as logs:
            for _ in range(10):
                if self.scheduler.tick() > 0:
                    return logs
        raise AssertionError("beat never sleeps")

    def scans(self, name: str = "photos") -> list[Scan]:
        with transaction(self.database) as session:
            found = select(Scan).where(col(Scan.schedule) == name).order_by(col(Scan.due_at))
            return list(session.execute(found).scalars())

    def dues(self, name: str = "photos") -> list[str]:
        return [f"{scan.due_at.astimezone(UTC):%d %H:%M}" for scan in self.scans(name) if scan.due_at]

    def set(self, scan_id: UUID, **values: Any) -> None:
        with transaction(self.database) as session:
            session.execute(update(Scan).where(col(Scan.id) == scan_id).values(**values))

    def finish(self, scan_id: UUID) -> None:
        self.set(scan_id, status=ScanStatus.DONE, finished_at=self.now, listed=1)
        for spawned_id, child in self.spawned:
            child.code = 0 if spawned_id == scan_id else child.code


@pytest.fixture
def night(database: Database) -> Iterator[Night]:
    night = Night(database)
    yield night
    night.lock.release()


def events(logs: Logs) -> list[str]:
    return [line["event"] for line in logs if line["event"].startswith("nightly")]


def test_a_new_scan_starts_when_it_is_due_and_not_before(night: Night) -> None:
    assert night.at("2026-07-01T01:59:59") == []
    assert night.scans() == []
    logs = night.at("2026-07-01T02:00:00.5")
    (scan,) = night.scans()
    assert events(logs) == ["nightly_scan_started"]
    assert (logs[0]["schedule"], logs[0]["scan_id"]) == ("photos", str(scan.id))
    assert (scan.name, scan.status, scan.token) == ("photos", "listing", "photos@2026-07-01T02:00:00+00:00")
    assert scan.due_at == datetime(2026, 7, 1, 2, tzinfo=UTC)
    assert (scan.policy, scan.rejudge) == ({"explain": "flagged", "fake_from": 0.7}, True)
    assert scan.listing == scans.Listing(sources=("s3://photos/",), rules=PHOTOS.rules).model_dump(mode="json")
    assert (scan.max_flagged_share, scan.max_failed_share) == (0.4, 0.4)
    assert [scan_id for scan_id, _ in night.spawned] == [scan.id]
    with transaction(night.database) as session:
        assert [one.actor for one in recorded(session, scan_id=scan.id)] == ["nightly:photos"]


def test_beat_sleeps_30_s_at_most_and_wakes_when_a_scan_is_due(night: Night) -> None:
    assert 0 < night.scheduler.tick() <= 30
    night.now = datetime(2026, 7, 1, 1, 59, 50, tzinfo=UTC)
    assert 9 < night.scheduler.tick() <= 10


def test_each_day_has_its_scan(night: Night) -> None:
    for day in (1, 2, 3):
        night.at(f"2026-07-0{day}T02:00:10")
        night.finish(night.scans()[-1].id)
        night.at(f"2026-07-0{day}T04:00:00")
    assert night.dues() == ["01 02:00", "02 02:00", "03 02:00"]
    assert len(night.spawned) == 3


def test_after_missed_days_one_scan_starts_at_once(night: Night) -> None:
    night.at("2026-07-01T02:00:10")
    night.finish(night.scans()[0].id)
    night.now = datetime(2026, 7, 5, 9, 30, tzinfo=UTC)
    night.begin()
    night.tick()
    assert night.dues() == ["01 02:00", "05 02:00"]
    night.finish(night.scans()[-1].id)
    night.after(60)
    assert len(night.scans()) == 2
    night.at("2026-07-06T02:00:00")
    assert night.dues() == ["01 02:00", "05 02:00", "06 02:00"]


@pytest.mark.parametrize("status", ["listing", "repairing", "running", "paused"])
def test_a_scan_does_not_overlap_itself_and_starts_when_the_last_one_ended(night: Night, status: str) -> None:
    night.at("2026-07-01T02:00:10")
    (first,) = night.scans()
    night.set(first.id, status=status)
    logs = night.at("2026-07-02T02:00:10")
    assert events(logs) == ["nightly_scan_postponed"]
    assert (logs[0]["scan_id"], logs[0]["schedule"]) == (str(first.id), "photos")
    assert events(night.after(30)) == [], "it is logged only once"
    assert len(night.scans()) == 1
    night.at("2026-07-02T05:00:00")
    night.finish(first.id)
    assert events(night.after(30)) == ["nightly_scan_ended", "nightly_scan_started"]
    assert night.dues() == ["01 02:00", "02 02:00"]


def test_after_a_cancelled_scan_the_next_one_starts(night: Night) -> None:
    night.at("2026-07-01T02:00:10")
    scans.cancel(night.database, night.scans()[0].id)
    night.at("2026-07-02T02:00:10")
    assert night.dues() == ["01 02:00", "02 02:00"]


def test_a_scan_that_lists_no_image_is_logged(night: Night) -> None:
    night.at("2026-07-01T02:00:10")
    night.set(night.scans()[0].id, status=ScanStatus.DONE, finished_at=night.now)
    logs = night.after(30)
    assert events(logs) == ["nightly_scan_ended", "nightly_scan_lists_nothing"]
    assert (logs[-1]["log_level"], logs[-1]["source"]) == ("warning", "s3://photos/")


def test_a_scan_that_requires_images_and_lists_none_is_cancelled(night: Night, tmp_path: Path) -> None:
    required = {"crontab": "0 2 * * *", "source": str(tmp_path), "require_images": True}
    night.nightly["photos"] = NightlyScan.model_validate(required)
    night.begin()
    night.at("2026-07-01T02:00:10")
    (scan,) = night.scans()
    publishing.publish_scan(InMemoryPublisher(), night.database, scan.id)
    (scan,) = night.scans()
    assert (scan.status, scan.finished_at is not None) == ("cancelled", True)
    logs = night.after(30)
    assert events(logs) == ["nightly_scan_ended"]
    assert "names no image" in logs[0]["note"]
    night.at("2026-07-02T02:00:10")
    assert night.dues() == ["01 02:00", "02 02:00"]


def test_scans_of_two_names_do_not_wait_for_each_other(night: Night) -> None:
    night.nightly["hourly"] = NightlyScan.model_validate({"crontab": "0 * * * *", "source": "s3://h/"})
    night.begin()
    night.at("2026-07-01T02:00:10")
    assert (night.dues(), night.dues("hourly")) == (["01 02:00"], ["01 02:00"])
    night.finish(night.scans("hourly")[0].id)
    night.at("2026-07-01T03:00:10")
    assert (night.dues(), night.dues("hourly")) == (["01 02:00"], ["01 02:00", "01 03:00"])


def test_a_token_of_a_schedule_that_somebody_else_used_is_logged_once(night: Night) -> None:
    taken = scans.start_scan(
        night.database, scans.Listing(sources=("s3://theirs/",)), token="photos@2026-07-01T02:00:00+00:00"
    )
    logs = [*night.at("2026-07-01 02:00:05"), *night.after(30)]
    assert [log["scan_id"] for log in logs if log["event"] == "nightly_token_taken"] == [str(taken.id)]
    assert night.spawned == []
    night.at("2026-07-02 02:00:05")
    assert night.dues() == ["02 02:00"]


@pytest.mark.parametrize("call", range(1, 9))
def test_two_schedulers_at_the_same_time_make_one_scan(night: Night, call: int) -> None:
    """There may be two when the connection with the lock is lost. Here, each has a lock of its own."""
    other = Night(night.database, key=1)
    other.now = night.now = datetime(2026, 7, 1, 2, 0, 5, tzinfo=UTC)
    calls = 0

    def overtake() -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            other.tick()

    night.before_now = overtake
    night.tick()
    other.tick()
    assert len(night.scans()) == 1
    assert {scan_id for scan_id, _ in night.spawned + other.spawned} == {night.scans()[0].id}
    other.lock.release()


def test_a_second_nightly_waits_and_continues_what_the_first_one_left_behind(night: Night) -> None:
    second = Night(night.database)
    night.at("2026-07-01T02:00:00")
    (scan,) = night.scans()
    assert events(second.at("2026-07-01T02:00:10")) == ["nightly_waits"]
    assert events(second.at("2026-07-03T02:00:40")) == [], "it is logged only once"
    assert second.spawned == []
    night.scheduler.close()
    assert "nightly_waits" not in events(second.after(30))
    second.after(59)
    assert second.spawned == [], "another producer may be at work"
    assert events(second.after(1)) == ["nightly_listing_taken_up"]
    assert [scan_id for scan_id, _ in second.spawned] == [scan.id]
    assert events(night.after(30)) == ["nightly_waits"]
    second.lock.release()


def break_connections(database: Database) -> None:
    """Ends all other connections, and waits until they have ended: only then are their locks free."""
    with database.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def test_a_lock_whose_connection_was_lost_is_taken_again_before_a_scan_starts(night: Night) -> None:
    night.at("2026-07-01T01:59:00")
    break_connections(night.database)
    assert events(night.at("2026-07-01T02:00:00")) == ["nightly_scan_started"]
    second = Night(night.database)
    assert events(second.at("2026-07-01T02:00:10")) == ["nightly_waits"]
    night.finish(night.scans()[0].id)
    break_connections(night.database)
    second.after(0)
    assert events(night.at("2026-07-02T02:00:00")) == ["nightly_waits"]
    assert len(night.scans()) == 1
    second.lock.release()


def test_a_child_that_died_is_started_again_with_growing_delays(night: Night) -> None:
    night.at("2026-07-01T02:00:00")
    (scan,) = night.scans()
    said: list[float] = []
    for wait_s in (0, 30, 60, 120, 240, 300, 300):
        count = len(night.spawned)
        night.spawned[-1][1].code = -signal.SIGKILL
        logs = night.after(30)
        said += [line["again_in_s"] for line in logs if line["event"] == "nightly_listing_died"]
        if wait_s:
            night.after(wait_s - 1)
            assert len(night.spawned) == count
            night.after(1)
        assert len(night.spawned) == count + 1
        night.after(3)
    assert said == [0, 30, 60, 120, 240, 300, 300]
    assert {scan_id for scan_id, _ in night.spawned} == {scan.id}
    night.set(scan.id, cursor="far", listed=7)
    night.after(30)
    night.spawned[-1][1].code = 1
    night.after(30)
    assert len(night.spawned) == 9, "a child that made progress is started again at once"


def test_workers_at_work_do_not_change_when_a_child_that_died_starts_again(night: Night) -> None:
    night.at("2026-07-01T02:00:00")
    (scan,) = night.scans()
    for judged, starts in enumerate([2, 2, 3, 3, 3, 4]):  # starts come 0 s, 30 s and 60 s after a death
        if night.spawned[-1][1].code is None:
            night.spawned[-1][1].code = 1
        night.set(scan.id, judged=judged)
        night.after(30)
        assert len(night.spawned) == starts, judged


def test_a_listing_that_was_left_behind_continues_unless_a_producer_is_at_work(night: Night) -> None:
    night.at("2026-07-01T02:00:00")
    (scan,) = night.scans()
    night.begin()
    night.spawned.clear()
    for listed in range(4):  # a person runs `resume`
        night.set(scan.id, listed=listed)
        night.after(40)
        assert night.spawned == []
    night.after(30)
    night.after(30)
    assert [scan_id for scan_id, _ in night.spawned] == [scan.id]
    night.set(scan.id, status=ScanStatus.PAUSED)
    night.spawned[0][1].code = 0
    night.after(300)
    night.after(300)
    assert len(night.spawned) == 1, "only a person continues a paused scan"


def test_no_child_starts_again_while_another_producer_is_at_work(night: Night) -> None:
    night.at("2026-07-01T02:00:00")
    (scan,) = night.scans()
    night.spawned[0][1].code = 0
    for listed in range(1, 5):
        night.set(scan.id, listed=listed)
        night.after(50)
    assert len(night.spawned) == 1
    night.after(299)
    assert len(night.spawned) == 1
    night.after(1)
    assert len(night.spawned) == 2


def test_a_producer_that_waits_for_a_full_queue_is_left_alone(night: Night) -> None:
    """Its cursor does not move for minutes, because workers take long for a chunk. But they are at work."""
    night.at("2026-07-01T02:00:00")
    (scan,) = night.scans()
    night.begin()
    night.spawned.clear()
    for judged in range(0, 1000, 100):
        night.set(scan.id, judged=judged)
        night.after(50)
    assert night.spawned == []
    night.after(60)
    assert [scan_id for scan_id, _ in night.spawned] == [scan.id]


def test_what_a_killed_resume_left_unpublished_is_published(night: Night) -> None:
    night.at("2026-07-01T02:00:00")
    (scan,) = night.scans()
    night.set(scan.id, status=ScanStatus.RUNNING, listed=16)
    night.spawned.pop()[1].code = 0
    night.after(600)
    assert night.spawned == [], "nothing is left to publish"
    with transaction(night.database) as session:
        session.add(Unpublished(scan_id=scan.id, messages=[]))
    for _ in range(4):
        night.after(75)
    assert night.spawned == [], "a person's `resume` may still be running"
    night.after(75)
    assert [scan_id for scan_id, _ in night.spawned] == [scan.id]
    night.spawned[0][1].code = 0
    with transaction(night.database) as session:
        session.execute(delete(Unpublished))
    night.after(600)
    night.after(600)
    assert len(night.spawned) == 1


def test_a_scan_that_is_no_longer_in_the_file_is_still_listed_to_its_end(night: Night) -> None:
    night.at("2026-07-01T02:00:00")
    night.nightly.clear()
    night.begin()
    night.tick()
    night.after(60)
    assert len(night.spawned) == 2


def test_a_real_child_that_is_killed_is_started_again_and_ends_with_beat(night: Night) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def sleeper(_scan_id: UUID) -> Child:
        processes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]))
        return processes[-1]

    children = Children(night.clock, sleeper)
    night.scheduler = NightlyScheduler(
        Celery("test", broker=NO_BROKER, set_as_current=False),
        nightly=night.nightly, database=night.database, clock=night.clock, children=children,
        checkins=CheckIns("UTC", night.clock), lock=night.lock,
    )  # fmt: skip
    night.at("2026-07-01T02:00:00")
    processes[0].kill()
    processes[0].wait()
    night.after(30)
    assert len(processes) == 2
    assert processes[1].poll() is None
    night.scheduler.close()
    assert processes[1].returncode == -signal.SIGTERM


def test_sigterm_during_a_tick_ends_beat_after_the_tick(night: Night) -> None:
    night.now = datetime(2026, 7, 1, 2, tzinfo=UTC)
    night.before_now = night.scheduler.stop
    with pytest.raises(SystemExit):
        night.scheduler.tick()
    assert [scan_id for scan_id, _ in night.spawned] == [night.scans()[0].id], "the start that had begun is completed"
    with pytest.raises(SystemExit):
        night.scheduler.stop()


def test_beat_waits_for_a_database_that_is_away() -> None:
    night = Night(connect("postgresql://u@127.0.0.1:9/none"))
    with capture_logs() as logs:
        assert night.scheduler.tick() == 30
    assert events(logs) == ["nightly_without_database"]


@pytest.mark.parametrize("call", range(1, 9))
def test_a_start_that_lost_the_database_anywhere_is_completed(night: Night, call: int) -> None:
    night.now = datetime(2026, 7, 1, 2, tzinfo=UTC)
    calls = 0

    def break_off() -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise DatabaseUnavailableError("the server closed the connection")

    night.before_now = break_off
    for _ in range(4):
        night.after(30)
    assert calls >= call
    assert night.dues() == ["01 02:00"]
    assert {scan_id for scan_id, _ in night.spawned} == {night.scans()[0].id}


class _Collected(Transport):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.told += [item.payload.json for item in envelope.items]

    def take(self) -> list[tuple[str, str]]:
        taken = [(told["status"], told["check_in_id"]) for told in self.told]
        self.told.clear()
        return taken


@pytest.fixture
def sentry() -> Iterator[_Collected]:
    transport = _Collected()
    sentry_sdk.init("https://key@localhost/1", transport=transport, default_integrations=False)
    yield transport
    client = sentry_sdk.get_client()
    sentry_sdk.get_global_scope().set_client(None)
    client.close(timeout=0)


def test_sentry_hears_of_start_and_end_once_even_after_a_restart(night: Night, sentry: _Collected) -> None:
    night.at("2026-07-01T02:00:00")
    (scan,) = night.scans()
    (started,) = sentry.told
    assert started["monitor_slug"] == "fakesweep-photos"
    assert started["monitor_config"] == TOLD
    assert started["duration"] is None
    assert sentry.take() == [("in_progress", scan.id.hex)]
    night.begin()
    night.after(30)
    night.set(scan.id, created_at=night.now - timedelta(seconds=600))
    night.finish(scan.id)
    night.after(30)
    (ended,) = sentry.told
    assert (ended["monitor_slug"], ended["duration"]) == ("fakesweep-photos", 600)
    assert sentry.take() == [("ok", scan.id.hex)]
    night.after(30)
    night.begin()
    night.after(30)
    assert sentry.take() == []


def test_sentry_hears_that_a_scan_was_cancelled(night: Night, sentry: _Collected) -> None:
    night.at("2026-07-01T02:00:00")
    (scan,) = night.scans()
    scans.cancel(night.database, scan.id)
    night.after(30)
    night.after(30)
    assert sentry.take() == [("in_progress", scan.id.hex), ("error", scan.id.hex)]


def test_sentry_hears_that_limits_paused_a_scan_and_that_it_ended_later(night: Night, sentry: _Collected) -> None:
    night.at("2026-07-01T02:00:00")
    (scan,) = night.scans()
    scans.pause(night.database, scan.id)
    night.after(30)
    assert sentry.take() == [("in_progress", scan.id.hex)], "a person's pause is no error"
    night.set(scan.id, judged=100, fake=41)
    night.after(30)
    night.after(30)
    assert sentry.take() == [("error", scan.id.hex)]
    scans.resume(night.database, scan.id)
    night.after(30)
    night.finish(scan.id)
    night.after(30)
    ((status, check_in),) = sentry.take()
    assert status == "ok"
    assert check_in != scan.id.hex, "Sentry accepts nothing more for a check-in that has ended"


@pytest.fixture
def environment(database_url: str, embedded_redis_url: str, tmp_path: Path) -> dict[str, str]:
    empty_queues(embedded_redis_url)
    folder = tmp_path / "images"
    folder.mkdir()
    for level in range(0, 200, 10):
        (folder / f"{level}.png").write_bytes(grey(level))
    file = tmp_path / "nightly.toml"
    file.write_text(f'[photos]\ncrontab = "* * * * *"\nsource = "{folder}"\nmax_flagged_share = 1\n')
    return settings_for(database_url, embedded_redis_url, FAKESWEEP_NIGHTLY=str(file))


def start_beat(environment: dict[str, str], log: Path) -> RunningWorker:
    """`fakesweep nightly` as a process."""
    with log.open("ab") as file:
        command = [sys.executable, "-m", "producers", "nightly"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env={**os.environ, **environment})
    return RunningWorker(process, log)


def test_nightly_reads_its_file_and_a_scan_gets_done(
    environment: dict[str, str], database_url: str, database: Database, tmp_path: Path
) -> None:
    yesterday = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(days=1)
    listing = scans.Listing(sources=("s3://gone/",))
    old = scans.start_scan(database, listing, name="photos", token="old", schedule="photos", due_at=yesterday)
    scans.cancel(database, old.id)
    newest = "SELECT status, judged, name FROM scans WHERE schedule = 'photos' AND token <> 'old' ORDER BY due_at"
    beat = start_beat(environment, tmp_path / "beat.log")
    try:
        with worker("0", "-1", environment, tmp_path):
            wait_for(lambda: query(database_url, newest)[:1] == [("done", 20, "photos")], 60, beat.process, beat.log)
        asked = time.monotonic()
        assert beat.stop(signal.SIGTERM) == 0
        assert time.monotonic() - asked < 15
    finally:
        beat.process.kill()
    lines = [json.loads(line) for line in beat.log.read_text().splitlines() if line.startswith("{")]
    (started, *_) = [line for line in lines if line["event"] == "nightly_scan_started"]
    assert fakesweep("status", started["scan_id"], environment=environment).returncode == 0
    assert "Traceback" not in beat.log.read_text()


def test_a_paused_scan_stays_paused_when_its_child_comes_late(
    environment: dict[str, str], database_url: str, database: Database, tmp_path: Path
) -> None:
    """A scan may be paused, also by its limits, after beat has looked at it and before the child does."""
    scan = scans.start_scan(database, scans.Listing(sources=(str(tmp_path / "images"),)))
    scans.pause(database, scan.id)
    done = fakesweep("publish", str(scan.id), environment=environment)
    assert done.returncode == 0, done.stderr
    assert query(database_url, "SELECT status, listed FROM scans") == [("paused", 0)]
