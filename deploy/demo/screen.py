"""Shows a scan in the demo: a table of its findings, their counts, and how many drawn images it got right."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from deploy.demo.upload import Upload
from producers.reporting.progress import printable

ROWS, LINES = 40, 10
ORDER = ("fake", "uncertain", "failed", "real")
COLOURS = {"fake": "red", "uncertain": "yellow", "real": "green", "failed": "magenta"}

Row = dict[str, Any]


def warn(console: Console, notice: str) -> None:
    """Prints what the detector is not, where everybody sees it."""
    console.print(Panel(escape(notice), border_style="yellow"))


def show_upload(console: Console, uploaded: Upload) -> None:
    """Prints how many files were stored, and up to ten lines each for renamed files and for those left out."""
    console.print(f"Uploaded {uploaded.stored} files; {len(uploaded.left_out)} left out.")
    for what, lines in (("renamed", uploaded.renamed), ("left out", uploaded.left_out)):
        for line in lines[:LINES]:
            console.print(f"  {what}: {printable(line)}", markup=False, soft_wrap=True)
        if len(lines) > LINES:
            console.print(f"  {what}: {len(lines) - LINES} more")


def show_findings(console: Console, results: Path, prefix: str) -> None:
    """Prints the table, most suspect first, with at most 40 rows, and then the counts of the rest."""
    rows = sorted(_rows(results), key=_rank)
    table = Table(title=f"Findings ({min(len(rows), ROWS)} of {len(rows)})")
    table.add_column("image", overflow="fold")
    table.add_column("finding", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("explanation or reason", overflow="fold")
    for row in rows[:ROWS]:
        kind, why = _kind(row), row["explanation"] or ": ".join(filter(None, (row["reason"], row["detail"])))
        table.add_row(
            _text(row["uri"].removeprefix(prefix), 120),
            f"[{COLOURS[kind]}]{kind}[/]" + (" (reused)" if row["outcome"] == "reused" else ""),
            "" if row["score"] is None else f"{row['score']:.3f}",
            _text(why, 300),
        )
    console.print(table)
    if rest := Counter(_kind(row) for row in rows[ROWS:]):
        console.print("and " + ", ".join(f"{rest[kind]} {kind}" for kind in ORDER if rest[kind]) + " more")


def show_correct(console: Console, results: Path, records: Path) -> None:
    """Prints how many verdicts agree with what was drawn. `records` are those of draw.py; label 1 is camera-like."""
    drawn = {record["image"]: "real" if record["label"] else "fake" for record in json.loads(records.read_bytes())}
    found = {row["uri"].rpartition("/")[2]: _kind(row) for row in _rows(results)}
    right = sum(found.get(Path(image).name) == label for image, label in drawn.items())
    console.print(f"[bold]{right} of {len(drawn)} verdicts are right[/] (half of the images were drawn as fakes).")


def _rows(results: Path) -> Iterator[Row]:
    with results.open(encoding="utf-8") as file:
        for line in file:  # not splitlines(): a name may contain other line separators
            yield json.loads(line)


def _kind(row: Row) -> str:
    return str(row["verdict"] or "failed")


def _rank(row: Row) -> tuple[int, float, str]:
    return ORDER.index(_kind(row)), -(row["score"] or 0.0), row["uri"]


def _text(text: str, longest: int) -> str:
    """Makes a text safe for a table cell: markup and control characters in a name have no effect."""
    text = printable(text)
    return escape(text if len(text) <= longest else text[: longest - 1] + "…")
