"""Processes that publish the scans of the desk and of the API: one process per scan, so that no page waits for one."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import structlog

from producers.nightly.children import Child, delay_after, end, publishing_process

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.5


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class _Publishing:
    """A scan that this process publishes. `again`: it was started once more while its process was still running."""

    child: Child | None
    deaths: int = 0
    next_start: datetime | None = None
    again: bool = False


class ScanProcesses:
    """The processes, by scan. A thread waits for their ends, so that no zombies stay.

    A process that dies is started again: at once after its first death, later after 30 seconds and more. A process that
    ends without an error is not started again: the scan is listed, paused or cancelled, or another process publishes
    it.

    If the web process is killed, its scans stay in the status `listing` until somebody starts them again. What was
    committed stays, and the next process continues from there.
    """

    def __init__(
        self, spawn: Callable[[UUID], Child] = publishing_process, clock: Callable[[], datetime] = _now
    ) -> None:
        self._spawn, self._clock = spawn, clock
        self._scans: dict[UUID, _Publishing] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, scan_id: UUID) -> None:
        """Publishes the scan from where it stands. While a process does so already, it does nothing."""
        with self._lock:
            if self._closed.is_set():
                return
            known = self._scans.get(scan_id)
            if known is not None and known.child is not None:
                known.again = True  # perhaps it is ending just now, because the scan was paused
                return
            self._scans[scan_id] = _Publishing(self._spawn(scan_id))
            if self._thread is None:
                self._thread = threading.Thread(target=self._look_after, name="scan-processes", daemon=True)
                self._thread.start()

    def deaths(self, scan_id: UUID) -> int:
        """How often in a row the scan's process has died. 0 for a scan that this process does not publish."""
        with self._lock:
            known = self._scans.get(scan_id)
            return known.deaths if known else 0

    def running(self, scan_id: UUID) -> bool:
        """Whether this process publishes the scan now, or will start to do so again."""
        with self._lock:
            return scan_id in self._scans

    def close(self) -> None:
        """Ends all processes. What they have committed stays."""
        with self._lock:
            self._closed.set()
            children = [one.child for one in self._scans.values() if one.child]
            self._scans.clear()
        end(children)

    def _look_after(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            with self._lock:
                for scan_id in list(self._scans):
                    self._look_at(scan_id, self._scans[scan_id])

    def _look_at(self, scan_id: UUID, one: _Publishing) -> None:
        code = one.child.poll() if one.child else None
        if code is not None:
            self._ended(scan_id, one, code)
        elif one.child is None and one.next_start is not None and self._clock() >= one.next_start:
            with suppress(OSError):  # not enough memory for a process: the next round tries again
                one.child, one.next_start = self._spawn(scan_id), None

    def _ended(self, scan_id: UUID, one: _Publishing, code: int) -> None:
        one.child = None
        if code == 0 and not one.again:
            del self._scans[scan_id]
            return
        one.again = False
        one.deaths = one.deaths + 1 if code else 0
        wait = delay_after(one.deaths)
        one.next_start = self._clock() + wait
        if code:
            log.warning(
                "scan_process_died", scan_id=str(scan_id), exit_code=code, deaths=one.deaths,
                again_in_s=wait.total_seconds(),
            )  # fmt: skip
