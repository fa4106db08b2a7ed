"""What a person sees on the terminal: a progress bar there, plain lines elsewhere, tables for `status`."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import Engine

from producers import results
from worker.tables import ScanStatus

POLL_S = 0.5
PLAIN_LINE_S = 5.0

Advance = Callable[[int, int | None], None]
"""Called with what is done and, once known, with the total."""


def warn(line: str) -> None:
    """One line about something that was passed over. Control characters of a name cannot reach the terminal."""
    print(f"fakesweep: skipped {printable(line)}", file=sys.stderr)


def printable(text: str) -> str:
    """The text on one line, with what a terminal would obey written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


@contextmanager
def shown(what: str, total: int | None) -> Iterator[Advance]:
    """A progress bar on stderr when that is a terminal, else a plain line every few seconds."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(what)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _plain(what: str) -> Advance:
    due = time.monotonic() + PLAIN_LINE_S

    def advance(done: int, of: int | None) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due += PLAIN_LINE_S
            print(f"{what}: {done}" + (f" of {of}" if of is not None else ""), file=sys.stderr, flush=True)

    return advance


def watch(postgres: Engine, scan_id: UUID) -> None:
    """Shows a scan's progress until every listed image has its outcome."""
    with shown("judging", total=None) as advance:
        while (counts := results.progress(postgres, scan_id))["status"] != ScanStatus.DONE:
            advance(counts["judged"] + counts["reused"] + counts["failed"], counts["listed"])
            time.sleep(POLL_S)
    print(_counts_line(counts), file=sys.stderr)


def _counts_line(counts: Mapping[str, Any]) -> str:
    names = ("listed", "judged", "reused", "failed", "fake", "uncertain", "real")
    return "  ".join(f"{name} {counts[name]}" for name in names)


def line(row: Mapping[str, Any]) -> str:
    """One finding on one line: what was decided, then the uri."""
    what = f"{row['verdict']} {row['score']:.3f}" if row["score"] is not None else row["verdict"] or row["reason"]
    what += " (contradicts itself)" if row["contradicts"] else ""
    why = row["explanation"] or row["detail"] or ""
    return "\t".join(printable(cell) for cell in (what, row["uri"], why))


def print_summary(found: Mapping[str, Any]) -> None:
    """A scan for a person."""
    table = Table(show_header=False, box=None)
    for name, value in found.items():
        shown_value = str(value)
        if name == "detectors":
            shown_value = ", ".join(row["name"] for row in value)
        if name == "policy":
            shown_value = ", ".join(f"{rule} {limit}" for rule, limit in value.items() if limit is not None)
        table.add_row(name, escape(printable(shown_value)))
    Console().print(table)


def print_scans(scans: Sequence[Mapping[str, Any]]) -> None:
    """The newest scans for a person."""
    table = Table("scan", "name", "status", "listed", "judged", "reused", "failed", "fake", "started")
    for scan in scans:
        cells = (scan[name] for name in ("name", "status", "listed", "judged", "reused", "failed", "fake"))
        table.add_row(scan["scan"], *(escape(printable(str(cell))) for cell in cells), scan["created_at"][:19])
    Console().print(table)
