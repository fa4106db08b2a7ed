"""Keeps measurements in benchmarks/results/: a file of figures with machine and commit, and a plot."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.scratch import RESULTS, machine

FIGURES, BEFORE, PLOT = RESULTS / "bench.json", RESULTS / "bench_before.json", RESULTS / "bench.png"


def keep(rows: list[dict[str, Any]]) -> None:
    """Puts the rows into bench.json, where they replace rows with the same names, and draws the plot."""
    if not rows:
        return
    measured = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": _commit()}
    about = measured | {"machine": machine()}
    kept = {row["name"]: row for row in read_kept(FIGURES)}
    kept |= {row["name"]: row | about for row in rows}
    FIGURES.write_text(json.dumps(sorted(kept.values(), key=_name), indent=1) + "\n", encoding="utf-8")
    _plot(sorted(kept.values(), key=_name), {row["name"]: row for row in read_kept(BEFORE)})


def _name(row: dict[str, Any]) -> str:
    return str(row["name"])


def read_kept(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of FIGURES or BEFORE, or none if there is no such file."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return rows


def _commit() -> str:
    """Returns the commit, with `+` if files differ from it."""
    found = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _plot(rows: list[dict[str, Any]], before: dict[str, dict[str, Any]]) -> None:
    """Draws each ratio as a share of its target, so that all fit on one axis. Right of the line is better."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes a second to import

    shown = [row for row in rows if row["target"]]
    figure = Figure(figsize=(9, 1 + 0.36 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(shown))
    old = [_reached(before[row["name"]]) if row["name"] in before else float("nan") for row in shown]
    axes.scatter(old, places, facecolors="none", edgecolors="tab:gray", label="before")
    axes.scatter([_reached(row) for row in shown], places, color="tab:blue", zorder=3, label="now")
    axes.axvline(1, color="tab:red", linewidth=1, label="target")
    axes.set_xscale("log")
    axes.set_yticks(places, [f"{row['name']}  {row['ratio']:.3g}" for row in shown])
    axes.invert_yaxis()
    axes.set_xlabel("how far the target is met (the right of the red line is better)")
    axes.grid(axis="x", which="both", linewidth=0.3)
    axes.legend(loc="best")
    figure.savefig(PLOT, dpi=110)


def _reached(row: dict[str, Any]) -> float:
    share = float(row["ratio"] / row["target"])
    return share if row["higher_is_better"] else 1 / share
