"""What a person sees on the terminal: a progress bar there, plain lines elsewhere, tables for `status`."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from producers.reporting import results
from worker.database import Database
from worker.errors import DatabaseUnavailableError
from worker.messages import Record
from worker.tables import ScanStatus

POLL_S = 0.5
PLAIN_LINE_S = 5.0

WAITING_ENDS = (ScanStatus.DONE, ScanStatus.PAUSED, ScanStatus.CANCELLED)
"""Where waiting ends."""


class Advance(Protocol):
    """Called with what is done, with the total once it is known, and with what else there is to say."""

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
    """The text on one line, with what a terminal would obey written as an escape."""
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
    """What a scan has come to while its producer waits for room in the queue."""
    advance(counts["listed"], None, f"the queue is full; {_decided(counts)} have an outcome, {_speed(counts)}")


@retry(
    retry=retry_if_exception_type(DatabaseUnavailableError),
    stop=stop_after_attempt(20),
    wait=wait_random_exponential(max=10),
    reraise=True,
)
def watch(database: Database, scan_id: UUID) -> dict[str, Any]:
    """Shows a scan's progress until every listed image has its outcome, or somebody stops it; its last counts."""
    with shown("judging", total=None) as advance:
        while (counts := results.progress(database, scan_id))["status"] not in WAITING_ENDS:
            advance(_decided(counts), counts["listed"], _speed(counts))
            time.sleep(POLL_S)
    print(_counts_line(counts), file=sys.stderr)
    return counts


def _speed(counts: Mapping[str, Any]) -> str:
    """As `8.1 images/s, 0:12:04 left, 3.2 % flagged, 0.0 % failed, 120 reused, 0 unchanged`."""
    left = f", {timedelta(seconds=counts['eta_s'])} left" if counts["eta_s"] is not None else ""
    shares = ", ".join(f"{100 * (counts[f'share_{name}'] or 0):.1f} % {name}" for name in ("flagged", "failed"))
    return f"{counts['rate']:.1f} images/s{left}, {shares}, {counts['reused']} reused, {counts['unchanged']} unchanged"


def say_paused(counts: Mapping[str, Any]) -> None:
    """One line that a scan stands still, why, and how it goes on."""
    scan, note = counts["scan"], counts["note"]
    print(f"fakesweep: scan {scan} is paused: {note}. Look at its findings (`fakesweep report {scan} --output …`); "
          f"then `fakesweep resume {scan}` or `fakesweep cancel {scan}`", file=sys.stderr)  # fmt: skip


def say_unchanged(counts: Mapping[str, Any]) -> None:
    """One line that images of a scan have no finding because they are as they were."""
    if counts["record"] == Record.CHANGES:
        say(f"scan {counts['scan']} records changes: {counts['unchanged']} of {counts['listed']} images are as they "
            "were last time and have no finding")  # fmt: skip


def say_stalled(scans: Sequence[Mapping[str, Any]]) -> None:
    """One line for each of the scans that stands still: since when, and what to look at."""
    for scan in scans:
        if scan["stalled_s"] is None:
            continue
        still, left = timedelta(seconds=scan["stalled_s"]), scan["listed"] - _decided(scan)
        say(f"scan {scan['scan']} ({scan['name']}) stands still: no image got its outcome for {still}, {left} images "
            "have none. Does a worker run? Does `fakesweep dead list` show something? "
            f"`fakesweep repair {scan['scan']}` publishes again what is lost")  # fmt: skip


def _decided(counts: Mapping[str, Any]) -> int:
    return int(counts["judged"] + counts["reused"] + counts["unchanged"] + counts["failed"])


def _counts_line(counts: Mapping[str, Any]) -> str:
    names = ("listed", "skipped", "judged", "reused", "unchanged", "failed", "fake", "uncertain", "real")
    why = ", ".join(f"{cause} {count}" for cause, count in (counts["skipped_by"] or {}).items())
    return "  ".join(f"{name} {counts[name]}" for name in names) + (f"  (skipped: {why})" if why else "")


def line(row: Mapping[str, Any]) -> str:
    """One finding on one line: what was decided, then the uri."""
    what = f"{row['verdict']} {row['score']:.3f}" if row["score"] is not None else row["verdict"] or row["reason"]
    what += " (contradicts itself)" if row["contradicts"] else ""
    why = row["explanation"] or row["detail"] or ""
    return "\t".join(printable(cell) for cell in (what, row["uri"], why))


def content_line(row: Mapping[str, Any]) -> str:
    """One flagged content on one line: since when, what is said of it, in how many places, the last one, and why."""
    score = "" if row["score"] is None else f" {row['score']:.3f}"
    what = f"{row['verdict']}{score}" + (f" ({row['statement']} for people)" if row["statement"] else "")
    places = "1 place" if row["places"] == 1 else f"{row['places']} places"
    cells = (row["first_flagged_at"][:19], what, places, row["last_flagged_uri"], row["explanation"] or "")
    return "\t".join(printable(cell) for cell in cells)


def print_summary(found: Mapping[str, Any]) -> None:
    """A scan for a person."""
    from rich.console import Console  # noqa: PLC0415 - likewise
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(show_header=False, box=None)
    for name, value in found.items():
        shown_value = str(value)
        if name == "detectors":
            shown_value = ", ".join(row["name"] for row in value)
        elif name in {"policy", "skipped_by"}:
            shown_value = ", ".join(f"{rule} {limit}" for rule, limit in (value or {}).items() if limit is not None)
        elif name.startswith("share_") and value is not None:
            shown_value = f"{100 * value:.2f} %"
        elif name in {"eta_s", "stalled_s"} and value is not None:
            shown_value = str(timedelta(seconds=value))
        table.add_row(name, escape(printable(shown_value)))
    Console().print(table)


def print_scans(scans: Sequence[Mapping[str, Any]]) -> None:
    """The newest scans for a person."""
    from rich.console import Console  # noqa: PLC0415 - likewise
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("scan", "name", "status", "listed", "judged", "reused", "unchanged", "failed", "fake", "started")
    for scan in scans:
        cells = (scan[name] for name in ("name", "status", "listed", "judged", "reused", "unchanged", "failed", "fake"))
        table.add_row(scan["scan"], *(escape(printable(str(cell))) for cell in cells), scan["created_at"][:19])
    Console().print(table)
