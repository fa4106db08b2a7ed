"""`fakesweep nightly`: Celery beat, with a scheduler that keeps its state in the table of scans."""

import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from celery import Celery, beat
from celery.schedules import crontab
from sqlalchemy import and_, exists, or_, select
from sqlmodel import col

from producers.counting import Count
from producers.nightly.checkins import CheckIns
from producers.nightly.children import Children, Position, publishing_process
from producers.nightly.nightly_lock import NightlyLock
from producers.nightly.schedule import NightlyScan
from producers.scans import Listing, start_scan
from worker import telemetry
from worker.database import Database, acting, actors, transaction
from worker.database.lifecycle import ENDED
from worker.errors import DatabaseUnavailableError, NoSuchDetectorError, OlderAtWorkError
from worker.tables import Scan, ScanStatus, Unpublished

log = structlog.get_logger(__name__)

_UNLISTED = (ScanStatus.LISTING, ScanStatus.REPAIRING)


def utc_now() -> datetime:
    """Returns the current time, aware, in UTC."""
    return datetime.now(UTC)


def serve(
    nightly: Mapping[str, NightlyScan], app: Celery, database: Database, timezone: str, count: Count | None = None
) -> None:
    """Runs beat until SIGTERM or SIGINT. `nightly` is by name. `timezone` is that of its crontabs.

    `count` is called with what the listing processes do.
    """
    app.conf.timezone = timezone
    children = Children(utc_now, partial(publishing_process, count=count))
    scheduler = partial(
        NightlyScheduler, nightly=nightly, database=database, clock=utc_now, children=children,
        checkins=CheckIns(timezone, utc_now), lock=NightlyLock(database),
    )  # fmt: skip
    service = beat.Service(app, scheduler_cls=scheduler, remote_control=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, service.scheduler.stop)
    log.info("nightly_ready", schedules=sorted(nightly))
    service.start()
    telemetry.flush()


class NightlyScheduler(beat.Scheduler):  # type: ignore[misc]  # Celery is not typed
    """Starts each scan when it is due: once if several times were missed, and never while its last one still runs.

    At every tick it makes its entries from Postgres. `last_run_at` is the due time of the newest scan with that name.
    """

    max_interval = 30
    """The longest time between two ticks, in seconds. The end of a scan is noticed within it."""

    producer = None
    """beat would open a connection for it, and wait for the broker. The children publish instead."""

    def __init__(
        self,
        *args: Any,
        nightly: Mapping[str, NightlyScan],
        database: Database,
        children: Children,
        checkins: CheckIns,
        lock: NightlyLock,
        clock: Callable[[], datetime] = utc_now,
        **kwargs: Any,
    ) -> None:
        self._nightly, self._database, self._clock = nightly, database, clock
        self._children, self._checkins, self._lock = children, checkins, lock
        self._began = clock()
        self._postponed: set[UUID] = set()
        self._refused: dict[str, datetime] = {}
        self._busy = self._stopping = self._waits = False
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Does nothing: there is no connection yet, and there must be no other entries."""

    def tick(self, **_kwargs: Any) -> float:
        """Looks after running listings and starts due scans. Returns the seconds until the next tick."""
        self._busy = True
        try:
            if not self._is_the_one():
                return self.max_interval
            self._refresh()
            self._heap = None  # beat remembers here when it next looks at an entry
            return float(super().tick())
        except DatabaseUnavailableError as error:
            log.warning("nightly_without_database", error=str(error))
            return self.max_interval
        finally:
            self._busy = False
            if self._stopping:
                raise SystemExit

    def stop(self, *_: object) -> None:
        """Handles SIGTERM: ends beat's sleep or the tick, but not between a child's start and its entry."""
        self._stopping = True
        if not self._busy:
            raise SystemExit

    def close(self) -> None:
        """Ends the children. The next start continues their scans."""
        self._children.close()
        self._lock.release()
        super().close()

    def apply_entry(self, entry: beat.ScheduleEntry, producer: object = None) -> None:
        """Starts the scan. Its token names the time that it is for, so of two beats only one creates the row."""
        del producer
        name, nightly = entry.name, self._nightly[entry.name]
        due = nightly.newest_due(self.app, entry.last_run_at, self._clock())
        if due is None:
            return
        try:
            scan = start_scan(
                acting(self._database, actors.nightly(name)),
                Listing(sources=nightly.sources, rules=nightly.rules, require_images=nightly.require_images),
                name=name, token=f"{name}@{due.isoformat()}", policy=nightly.policy, limits=nightly.limits,
                rejudge=nightly.rejudge, record=nightly.record, schedule=name, due_at=due,
            )  # fmt: skip
        except (NoSuchDetectorError, OlderAtWorkError) as error:  # the next tick tries again: workers start later
            log.warning("nightly_without_detector", scan=name, error=str(error))
            return
        if scan.schedule != name:
            self._refuse(name, due, scan)
            return
        self._children.start(scan.id)
        self._checkins.started(name, nightly, scan)

    def _refuse(self, name: str, due: datetime, scan: Scan) -> None:
        """Skips a time for which somebody else has started a scan with this schedule's token."""
        self._refused[name] = due
        log.error(
            "nightly_token_taken", schedule=name, scan_id=str(scan.id), token=scan.token,
            remedy="the scan of this time does not start: start it by hand, and use such tokens for nothing else",
        )  # fmt: skip

    def _is_the_one(self) -> bool:
        """Whether no other `nightly` works on this database. If there is one, it starts and looks after the scans."""
        held = self._lock.held()
        if not held and not self._waits:
            log.warning("nightly_waits", reason="another one runs")
        self._waits = not held
        return held

    def _refresh(self) -> None:
        """Makes the entries from Postgres, except if the last scan of a name has not ended. Reports on the scans."""
        self._children.look_after(self._unlisted())
        self.schedule = {}
        for name, nightly in self._nightly.items():
            scan = self._newest(name)
            if scan is not None:
                self._checkins.look(name, nightly, scan)
            # A name without a scan is new: it has not missed anything before this process began.
            last = scan.due_at if scan is not None and scan.due_at is not None else self._began
            last = max(last, self._refused.get(name, last))
            schedule = crontab.from_string(nightly.crontab)
            schedule.nowfun = self._clock
            entry = self.Entry(name, "nightly", last_run_at=last, schedule=schedule, app=self.app)
            if scan is None or scan.status in ENDED:
                self.schedule[name] = entry
            elif entry.is_due().is_due:
                self._postpone(name, scan)

    def _postpone(self, name: str, scan: Scan) -> None:
        if scan.id not in self._postponed:
            self._postponed.add(scan.id)
            log.warning("nightly_scan_postponed", schedule=name, scan_id=str(scan.id), status=str(scan.status))

    def _newest(self, name: str) -> Scan | None:
        query = select(Scan).where(col(Scan.schedule) == name).order_by(col(Scan.due_at).desc()).limit(1)
        with transaction(self._database) as session:
            return session.execute(query).scalar()

    def _unlisted(self) -> dict[UUID, Position]:
        """Returns scans of a schedule that must be listed, also of schedules that the file no longer names.

        This includes listed scans that were paused and resumed, if `resume` ended before it published all set-aside
        messages.
        """
        set_aside = exists().where(col(Unpublished.scan_id) == col(Scan.id))
        unpublished = and_(col(Scan.status) == ScanStatus.RUNNING, set_aside)
        wanted = or_(col(Scan.status).in_(_UNLISTED), unpublished)
        query = select(Scan).where(col(Scan.schedule).is_not(None), wanted)
        with transaction(self._database) as session:
            return {scan.id: _position(scan) for scan in session.execute(query).scalars()}


def _position(scan: Scan) -> Position:
    outcomes = (scan.judged + scan.reused + scan.unchanged + scan.failed, scan.counted_at)
    return Position((scan.status, scan.cursor, scan.listed), outcomes)
