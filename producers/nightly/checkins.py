"""What nightly scans tell Sentry's cron monitors, and the log, of how they went."""

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
"""Lateness in minutes beyond which Sentry calls a scan missed."""

MAX_RUNTIME_MIN = 24 * 60
"""Minutes without an end after which Sentry calls it timed out. A first sweep over an archive takes hours."""


class CheckIns:
    """Of the newest scan of each name: its start, and once each its end and its pause by its limits.

    The id of a check-in is made from the scan's, so a beat that starts anew goes on with it. What ended or paused
    before this process saw the scan at work is not told: the process before has done so, or Sentry's own limit does.
    `clock` gives an aware datetime; `timezone` is that of the crontabs.
    """

    def __init__(self, timezone: str, clock: Callable[[], datetime]) -> None:
        self._timezone, self._clock = timezone, clock
        self._at_work: set[UUID] = set()
        self._was_paused: set[UUID] = set()

    def started(self, name: str, nightly: NightlyScan, scan: Scan) -> None:
        """The scan was started."""
        self._at_work.add(scan.id)
        log.info("nightly_scan_started", schedule=name, scan_id=str(scan.id), due_at=str(scan.due_at))
        self._capture(name, nightly, scan, MonitorStatus.IN_PROGRESS)

    def look(self, name: str, nightly: NightlyScan, scan: Scan) -> None:
        """Tells what has become of the scan since the last look."""
        if scan.status in ENDED:
            if scan.id in self._at_work:
                log.info("nightly_scan_ended", schedule=name, scan_id=str(scan.id), status=str(scan.status))
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
        # Sentry takes nothing more of a check-in that ended: an end after a pause is another one.
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
    """Whether its limits have paused it, not a person."""
    limits = (scan.max_flagged_share, scan.max_failed_share)
    over = any(limit is not None and share > limit for share, limit in zip(figures.shares(scan), limits, strict=True))
    return scan.status == ScanStatus.PAUSED and over
