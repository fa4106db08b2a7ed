"""Shows people the state of scans: what `status` prints, and lines about scans that do not move."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from producers.reporting.audits import audit_line
from producers.reporting.progress import decided, printable, say
from worker.messages import Record

_COLUMNS = ("scan", "status", "started", "listed", "judged", "reused", "unchanged", "failed", "fake", "name")
_FIGURES = ("listed", "judged", "reused", "unchanged", "failed", "fake")


def say_paused(counts: Mapping[str, Any]) -> None:
    """Prints one line: that a scan is paused, why, and how to continue it."""
    scan, note = counts["scan"], counts["note"]
    print(f"fakesweep: scan {scan} is paused: {note}. Look at its findings (`fakesweep report {scan} --output …`); "
          f"then `fakesweep resume {scan}` or `fakesweep cancel {scan}`", file=sys.stderr)  # fmt: skip


def say_unchanged(counts: Mapping[str, Any]) -> None:
    """Prints one line: that images of a scan have no finding because they have not changed."""
    if counts["record"] == Record.CHANGES:
        say(f"scan {counts['scan']} records changes: {counts['unchanged']} of {counts['listed']} images are as they "
            "were last time and have no finding")  # fmt: skip


def say_stalled(scans: Sequence[Mapping[str, Any]]) -> None:
    """Prints one line for each scan that stands still: for how long, and what to look at."""
    for scan in scans:
        if scan["stalled_s"] is None:
            continue
        still, left = timedelta(seconds=scan["stalled_s"]), scan["listed"] - decided(scan)
        say(f"scan {scan['scan']} ({scan['name']}) stands still: no image got its outcome for {still}, {left} images "
            "have none. Does a worker run? Does `fakesweep dead list` show something? "
            f"`fakesweep repair {scan['scan']}` publishes again what is lost")  # fmt: skip


def print_summary(found: Mapping[str, Any]) -> None:
    """A scan for a person: a name and a value on each line. Nothing is cut, so that an id can be copied."""
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {printable(_shown(name, value))}")


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in {"detectors", "audits"}:
        return ", ".join(audit_line(row) if name == "audits" else row["name"] for row in value) or "-"
    if name in {"policy", "skipped_by"}:
        return ", ".join(f"{rule} {limit}" for rule, limit in value.items() if limit is not None) or "-"
    if name.startswith("share_"):
        return f"{100 * value:.2f} %"
    if name in {"eta_s", "stalled_s"}:
        return str(timedelta(seconds=value))
    return str(value)


def print_scans(scans: Sequence[Mapping[str, Any]], *, width: int | None = None) -> None:
    """The scans for a person. Ids are never cut: a terminal that is too narrow for a table gets two lines per scan.

    `width` is that of the terminal, in characters; None asks for it.
    """
    if not scans:
        print("there are no scans: `fakesweep scan SOURCE` starts one")
        return
    rows = [_COLUMNS, *(_row(scan) for scan in scans)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_COLUMNS))]
    if sum(widths) + 2 * (len(widths) - 1) > (width or shutil.get_terminal_size().columns):
        for scan in scans:
            print("\n".join(_narrow(scan)))
        return
    for row in rows:
        print("  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip())


def _row(scan: Mapping[str, Any]) -> tuple[str, ...]:
    figures = (str(scan[name]) for name in _FIGURES)
    return (scan["scan"], scan["status"], _started(scan), *figures, printable(str(scan["name"])))


def _narrow(scan: Mapping[str, Any]) -> tuple[str, str]:
    figures = "  ".join(f"{name} {scan[name]}" for name in _FIGURES if scan[name] or name == "listed")
    return f"{scan['scan']}  {scan['status']}  {_started(scan)}", f"    {printable(str(scan['name']))}: {figures}"


def _started(scan: Mapping[str, Any]) -> str:
    return str(scan["created_at"])[:16].replace("T", " ")
