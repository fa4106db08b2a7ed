"""Processes that list scans, one a scan: started, and started again when they die, by whoever looks after them."""

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
"""A scan that is not ours and has not moved for so long is left behind. Else somebody is at it: a person's `resume`."""

LEFT_BEHIND_AFTER = timedelta(seconds=60)
"""The same for what is found at the start: most likely the `nightly` before had it, and that one does not run now."""

FIRST_DELAY, LONGEST_DELAY = timedelta(seconds=30), timedelta(minutes=5)
"""After a second death in a row, doubled each time; after a first one, there is none."""

STOP_TIMEOUT_S = 10.0


class Child(Protocol):
    """A process, as subprocess.Popen has it."""

    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


def publishing_process(scan_id: UUID, count: Count | None = None) -> Child:
    """Goes on with the scan's listing in a process of its own: its memory and its crashes are not ours.

    `count` is told what the process does.
    """
    command = [sys.executable, "-m", "producers", "publish", str(scan_id)]
    if count is None:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    process = subprocess.Popen([*command, "--counts"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S603
    threading.Thread(target=_hear, args=(process, count), name="counts", daemon=True).start()
    return process


def delay_after(deaths: int) -> timedelta:
    """How long to wait before a process is started again that has died so often in a row."""
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

    Outcomes are a sign of life as well: while the queue is full, a living producer moves its cursor only every few
    minutes, since the workers need that long for a chunk; but then they are at work.
    """

    listing: object
    outcomes: object


@dataclass
class _Listing:
    """What is known of a scan that is to be listed. `seen`: how far it was, at `since`."""

    seen: Position | None
    since: datetime
    child: Child | None = None
    wait: timedelta = TAKE_UP_AFTER
    deaths: int = 0

    def note(self, position: Position, now: datetime) -> None:
        """Remembers how far it is, and since when."""
        if self.seen is None or self.seen.listing != position.listing:
            self.since = now
            # After a death it may be somebody else who moves it.
            self.deaths = 0 if self.child else self.deaths
        elif self.seen.outcomes != position.outcomes and not self.deaths:  # ours that died is no rival's
            self.since = now
        self.seen = position


class Children:
    """The processes, by scan. `clock` gives an aware datetime."""

    def __init__(self, clock: Callable[[], datetime], spawn: Callable[[UUID], Child] = publishing_process) -> None:
        self._clock, self._spawn = clock, spawn
        self._listings: dict[UUID, _Listing] = {}
        self._wait = LEFT_BEHIND_AFTER

    def start(self, scan_id: UUID) -> None:
        """Starts to list a scan that is new."""
        listing = self._listings.setdefault(scan_id, _Listing(None, self._clock()))
        if listing.child is None:
            listing.child = self._spawn(scan_id)

    def look_after(self, unlisted: Mapping[UUID, Position]) -> None:
        """Starts what has died or was left behind. `unlisted`: every scan that is to be listed, and how far each is."""
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
        if code == 0:  # listed, or somebody else has gone on with it
            listing.wait, listing.deaths = TAKE_UP_AFTER, 0
        elif unfinished:
            listing.deaths += 1
            listing.wait = delay_after(listing.deaths)
            said = log.warning if listing.deaths < 3 else log.error  # noqa: PLR2004 - the third is no accident
            said("nightly_listing_died", scan_id=str(scan_id), exit_code=code, again_in_s=listing.wait.total_seconds())

    def close(self) -> None:
        """Ends them all. What they had committed stays; the next start goes on from there."""
        children = [listing.child for listing in self._listings.values() if listing.child]
        self._listings.clear()
        end(children)
