"""Tells Sentry's cron monitors and the log how nightly scans went."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID, uuid5

import structlog
from sentry_sdk.crons import MonitorStatus, capture_checkin

from producers.nightly.schedule import NightlyScan
from worker.database import figures
from worker.database.lifecycle import ENDED
from worker.tables import Scan, ScanStatus

log = structlog.get_logger(__name__)

MARGIN_MIN = 15
"""After how many minutes of delay Sentry calls a scan missed."""

MAX_RUNTIME_MIN = 24 * 60
"""After how many minutes without an end Sentry calls a scan timed out. A first scan of an archive takes hours."""


class CheckIns:
    """Reports about the newest scan of each name: its start, its end, and its pause at a limit, each of them once.

    The id of a check-in is made from the scan's id, so a restarted process continues it. The end or pause of a scan is
    not reported if this process never saw the scan running: the process before it reported that, or Sentry's own limit
    does. `clock` gives an aware datetime. `timezone` is that of the crontabs.
    """

    def __init__(self, timezone: str, clock: Callable[[], datetime]) -> None:
        self._timezone, self._clock = timezone, clock
        self._at_work: set[UUID] = set()
        self._was_paused: set[UUID] = set()

    def started(self, name: str, nightly: NightlyScan, scan: Scan) -> None:
        """Reports that the scan was started."""
        self._at_work.add(scan.id)
        log.info("nightly_scan_started", schedule=name, scan_id=str(scan.id), due_at=str(scan.due_at))
        self._capture(name, nightly, scan, MonitorStatus.IN_PROGRESS)

    def look(self, name: str, nightly: NightlyScan, scan: Scan) -> None:
        """Reports what happened to the scan since the last look."""
        if scan.status in ENDED:
            if scan.id in self._at_work:
                told = {"schedule": name, "scan_id": str(scan.id), "status": str(scan.status), "note": scan.note}
                log.info("nightly_scan_ended", **told)
                if scan.status == ScanStatus.DONE and not scan.listed:
                    log.warning("nightly_scan_lists_nothing", **told, source=scan.source)
                ended_well = scan.status == ScanStatus.DONE
                self._capture(name, nightly, scan, MonitorStatus.OK if ended_well else MonitorStatus.ERROR)
            self._at_work.discard(scan.id)
            self._was_paused.discard(scan.id)
        elif _over_its_limits(scan):
            if scan.id in self._at_work and scan.id not in self._was_paused:
                log.warning("nightly_scan_paused", schedule=name, scan_id=str(scan.id), note=scan.note)
                self._capture(name, nightly, scan, MonitorStatus.ERROR)
            self._at_work.add(scan.id)
            self._was_paused.add(scan.id)
        else:
            self._at_work.add(scan.id)

    def _capture(self, name: str, nightly: NightlyScan, scan: Scan, status: str) -> None:
        ended = scan.finished_at or self._clock()
        # Sentry accepts no update of a check-in that has ended, so an end after a pause is another check-in.
        check_in = uuid5(scan.id, "resumed") if scan.id in self._was_paused else scan.id
        capture_checkin(
            monitor_slug=f"fakesweep-{name}",
            check_in_id=check_in.hex,
            status=status,
            duration=None if status == MonitorStatus.IN_PROGRESS else (ended - scan.created_at).total_seconds(),
            monitor_config={
                "schedule": {"type": "crontab", "value": nightly.crontab},
                "timezone": self._timezone,
                "checkin_margin": MARGIN_MIN,
                "max_runtime": MAX_RUNTIME_MIN,
            },
        )


def _over_its_limits(scan: Scan) -> bool:
    """Whether the scan was paused by its limits, and not by a person."""
    limits = (scan.max_flagged_share, scan.max_failed_share)
    over = any(limit is not None and share > limit for share, limit in zip(figures.shares(scan), limits, strict=True))
    return scan.status == ScanStatus.PAUSED and over
