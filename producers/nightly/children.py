"""Processes that list scans, one per scan. They are restarted when they die."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

import structlog

from producers.counting import Count, hear

log = structlog.get_logger(__name__)

TAKE_UP_AFTER = timedelta(minutes=5)
"""A scan without a child here that has not moved for this time is abandoned. Until then, a `resume` may be at work."""

LEFT_BEHIND_AFTER = timedelta(seconds=60)
"""The same for scans found at the start: they probably belong to the previous `nightly`, which has ended."""

FIRST_DELAY, LONGEST_DELAY = timedelta(seconds=30), timedelta(minutes=5)
"""The delay after a second death in a row, doubled each time. After the first death there is no delay."""

STOP_TIMEOUT_S = 10.0


class Child(Protocol):
    """A process with the methods of subprocess.Popen."""

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


def publishing_process(scan_id: UUID, count: Count | None = None) -> Child:
    """Continues the scan's listing in a process of its own, which keeps its memory and its crashes apart.

    `count` is called with what the process does.
    """
    command = [sys.executable, "-m", "producers", "publish", str(scan_id)]
    if count is None:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    process = subprocess.Popen([*command, "--counts"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S603
    threading.Thread(target=_hear, args=(process, count), name="counts", daemon=True).start()
    return process


def delay_after(deaths: int) -> timedelta:
    """Returns how long to wait before a process that died so often in a row is restarted."""
    return timedelta(0) if deaths <= 1 else min(FIRST_DELAY * 2 ** min(deaths - 2, 10), LONGEST_DELAY)


def end(children: Iterable[Child]) -> None:
    """Ends these processes, and kills those that take longer than STOP_TIMEOUT_S."""
    children = list(children)
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _hear(process: "subprocess.Popen[bytes]", count: Count) -> None:
    if process.stdout:
        with process.stdout as lines:
            hear(lines, count)


class Position(NamedTuple):
    """How far a scan is: its `listing`, and the `outcomes` of its images.

    New outcomes are a sign of life, too. While the queue is full, a producer moves its cursor only every few minutes,
    because the workers need that long for a chunk.
    """

    listing: object
    outcomes: object


@dataclass
class _Listing:
    """What is known about a scan that must be listed. `seen`: how far it was, at `since`."""

    seen: Position | None
    since: datetime
    child: Child | None = None
    wait: timedelta = TAKE_UP_AFTER
    deaths: int = 0

    def note(self, position: Position, now: datetime) -> None:
        """Remembers how far the scan is, and since when."""
        if self.seen is None or self.seen.listing != position.listing:
            self.since = now
            # After a death, another process may have moved it.
            self.deaths = 0 if self.child else self.deaths
        elif self.seen.outcomes != position.outcomes and not self.deaths:  # after a death, outcomes prove nothing
            self.since = now
        self.seen = position


class Children:
    """The listing processes, by scan. `clock` gives an aware datetime."""

    def __init__(self, clock: Callable[[], datetime], spawn: Callable[[UUID], Child] = publishing_process) -> None:
        self._clock, self._spawn = clock, spawn
        self._listings: dict[UUID, _Listing] = {}
        self._wait = LEFT_BEHIND_AFTER

    def start(self, scan_id: UUID) -> None:
        """Starts to list a new scan."""
        listing = self._listings.setdefault(scan_id, _Listing(None, self._clock()))
        if listing.child is None:
            listing.child = self._spawn(scan_id)

    def look_after(self, unlisted: Mapping[UUID, Position]) -> None:
        """Starts listings that died or were abandoned. `unlisted`: every scan that must be listed, and its position."""
        for scan_id, listing in list(self._listings.items()):
            self._reap(scan_id, listing, unfinished=scan_id in unlisted)
            if listing.child is None and scan_id not in unlisted:
                del self._listings[scan_id]
        for scan_id, position in unlisted.items():
            listing = self._listings.setdefault(scan_id, _Listing(position, self._clock(), wait=self._wait))
            listing.note(position, self._clock())
            if listing.child is None and self._clock() - listing.since >= listing.wait:
                log.info("nightly_listing_taken_up", scan_id=str(scan_id), deaths=listing.deaths)
                listing.child = self._spawn(scan_id)
        self._wait = TAKE_UP_AFTER

    def _reap(self, scan_id: UUID, listing: _Listing, *, unfinished: bool) -> None:
        code = listing.child.poll() if listing.child else None
        if code is None:
            return
        listing.child, listing.since = None, self._clock()
        if code == 0:  # it is listed, or another process has continued it
            listing.wait, listing.deaths = TAKE_UP_AFTER, 0
        elif unfinished:
            listing.deaths += 1
            listing.wait = delay_after(listing.deaths)
            said = log.warning if listing.deaths < 3 else log.error  # noqa: PLR2004 - a third death is not by chance
            said("nightly_listing_died", scan_id=str(scan_id), exit_code=code, again_in_s=listing.wait.total_seconds())

    def close(self) -> None:
        """Ends all processes. What they committed stays, and the next start continues from there."""
        children = [listing.child for listing in self._listings.values() if listing.child]
        self._listings.clear()
        end(children)
