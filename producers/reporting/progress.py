"""What a person sees while a command runs: a progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from producers.reporting import results
from producers.reporting.stages import STAGES
from worker.database import Database
from worker.errors import DatabaseUnavailableError
from worker.tables import ScanStatus

POLL_S = 0.5
PLAIN_LINE_S = 5.0

WAITING_ENDS = (ScanStatus.DONE, ScanStatus.PAUSED, ScanStatus.CANCELLED)
"""Where waiting ends."""


class Advance(Protocol):
    """Called with what is done, with the total when it is known, and with other text to show."""

    def __call__(self, done: int, of: int | None, note: str = "") -> None: ...


class Warnings:
    """Prints one line for each fault on stderr, the first twenty of them; the scan counts them all.

    Control characters of a name cannot reach the terminal.
    """

    def __init__(self, limit: int = 20) -> None:
        self._left = limit

    def __call__(self, line: str) -> None:
        self._left -= 1
        if self._left >= 0:
            print(f"fakesweep: {printable(line)}", file=sys.stderr)
        if self._left == 0:
            print("fakesweep: … more of these are counted and not shown", file=sys.stderr)


def printable(text: str) -> str:
    """The text on one line. Characters that a terminal would obey are written as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


@contextmanager
def shown(what: str, total: int | None) -> Iterator[Advance]:
    """A progress bar on stderr when that is a terminal, else a plain line every few seconds."""
    from rich.console import Console  # noqa: PLC0415 - what prints plain lines does without rich

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(what)
        return
    from rich.progress import (  # noqa: PLC0415 - likewise
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.fields[note]}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(done: int, of: int | None, note: str = "") -> None:
            bar.update(task, completed=done, total=of, note=note)

        yield advance


def _plain(what: str) -> Advance:
    due = time.monotonic() + PLAIN_LINE_S

    def advance(done: int, of: int | None, note: str = "") -> None:
        nonlocal due
        if time.monotonic() >= due:
            due += PLAIN_LINE_S
            print(
                f"{what}: {done}" + (f" of {of}" if of is not None else "") + (f", {note}" if note else ""),
                file=sys.stderr,
                flush=True,
            )

    return advance


def say(line: str) -> None:
    """One line on stderr."""
    print(f"fakesweep: {printable(line)}", file=sys.stderr, flush=True)


def show_waiting(advance: Advance, counts: Mapping[str, Any]) -> None:
    """Shows how far a scan is while its producer waits for room in the queue."""
    advance(counts["listed"], None, f"the queue is full; {decided(counts)} have an outcome, {_speed(counts)}")


def watch(
    database: Database, scan_id: UUID, *, look: Callable[[], None] = lambda: None, timeout_s: float | None = None
) -> dict[str, Any]:
    """Shows a scan's progress until every listed image has its outcome, somebody stops it, or the time is over.

    Returns its last counts. `look` is called twice a second. `timeout_s` are seconds; None waits as long as it takes.
    Raises NoSuchScanError, and DatabaseUnavailableError after several minutes without the database.
    """
    return _watch(database, scan_id, look, None if timeout_s is None else time.monotonic() + timeout_s)


@retry(
    retry=retry_if_exception_type(DatabaseUnavailableError),
    stop=stop_after_attempt(20),
    wait=wait_random_exponential(max=10),
    reraise=True,
)
def _watch(database: Database, scan_id: UUID, look: Callable[[], None], until: float | None) -> dict[str, Any]:
    with shown("judging", total=None) as advance:
        while (counts := results.progress(database, scan_id))["status"] not in WAITING_ENDS:
            advance(decided(counts), counts["listed"], _speed(counts))
            if until is not None and time.monotonic() >= until:
                break
            look()
            time.sleep(POLL_S)
    print(_counts_line(counts), file=sys.stderr)
    return counts


def _speed(counts: Mapping[str, Any]) -> str:
    """As `8.1 images/s, 0:12:04 left, 3.2 % flagged, 0.0 % failed, 120 reused, 0 unchanged`."""
    left = f", {timedelta(seconds=counts['eta_s'])} left" if counts["eta_s"] is not None else ""
    shares = ", ".join(f"{100 * (counts[f'share_{name}'] or 0):.1f} % {name}" for name in ("flagged", "failed"))
    return f"{counts['rate']:.1f} images/s{left}, {shares}, {counts['reused']} reused, {counts['unchanged']} unchanged"


def decided(counts: Mapping[str, Any]) -> int:
    """How many images of a scan have their outcome."""
    return int(counts["judged"] + counts["reused"] + counts["unchanged"] + counts["failed"])


def _counts_line(counts: Mapping[str, Any]) -> str:
    names = ("listed", "skipped", "judged", "reused", "unchanged", "failed", "fake", "uncertain", "real")
    why = ", ".join(f"{cause} {count}" for cause, count in (counts["skipped_by"] or {}).items())
    return "  ".join(f"{name} {counts[name]}" for name in names) + (f"  (skipped: {why})" if why else "")


def line(row: Mapping[str, Any]) -> str:
    """One finding on one line: what was decided, then the uri."""
    what = f"{row['verdict']} {row['score']:.3f}" if row["score"] is not None else row["verdict"] or row["reason"]
    what += " (contradicts itself)" if row["contradicts"] else ""
    what += f" ({STAGES[row['stage']]})" if row["stage"] else ""
    wordless = results.WORDLESS if row["detector"] and not row["detector"]["gives_reasons"] else ""
    why = row["explanation"] or row["detail"] or wordless
    return "\t".join(printable(cell) for cell in (what, row["uri"], why))


def content_line(row: Mapping[str, Any]) -> str:
    """One flagged content on one line: since when, its verdict, the number of its places, the last place, and why."""
    score = "" if row["score"] is None else f" {row['score']:.3f}"
    what = f"{row['verdict']}{score}" + (f" (people: {row['statement']})" if row["statement"] else "")
    places = "1 place" if row["places"] == 1 else f"{row['places']} places"
    cells = (
        row["first_flagged_at"][:19],
        what,
        places,
        row["last_flagged_uri"],
        row["explanation"] or ("" if row["gives_reasons"] else results.WORDLESS),
    )
    return "\t".join(printable(cell) for cell in cells)
