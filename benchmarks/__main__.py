"""Runs the comparisons, each in a process of its own: `make bench`, or `make bench ARGS="--only host_path"`.

Prints one table and writes build/bench/results.json. The figures are kept in benchmarks/results/bench.json, with the
machine and the commit, and drawn into bench.png beside it.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.apart import BENCHMARKS, measure
from benchmarks.kept import BEFORE, keep, read_kept

OUTPUT = Path("build/bench/results.json")


def main() -> int:
    """Returns 0 if everything was measured, 1 if a benchmark failed, and 2 if no name fits."""
    parser = argparse.ArgumentParser(prog="make bench", description="Compares our figures with those of references.")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="can be given several times")
    options = parser.parse_args()
    for one in options.only:
        if not any(_within(name, one) for name in BENCHMARKS):
            parser.error(f"no benchmark is called {one}: give one of {', '.join(BENCHMARKS)}")
    chosen = [name for name in BENCHMARKS if not options.only or any(_within(name, one) for one in options.only)]
    rows: list[dict[str, Any]] = []
    failed = []
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows += measure(name, options.only)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the other benchmarks continue
            failed.append(name)
            print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        _write(rows)
    print(_table(rows, {row["name"]: row for row in read_kept(BEFORE)}))
    keep(rows)
    missing = [one for one in options.only if not any(_within(one, row["name"]) for row in rows)]
    if missing and not failed:
        print(f"no comparison is called {', '.join(missing)}", file=sys.stderr)
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed or missing else 0


def _within(benchmark: str, only: str) -> bool:
    return only == benchmark or only.startswith(f"{benchmark}.")


def _write(rows: list[dict[str, Any]]) -> None:
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _table(rows: list[dict[str, Any]], before: dict[str, dict[str, Any]]) -> str:
    """Returns the table. `before` has the same comparisons from before an improvement, if they were measured."""
    lines = [("name", "ours", "reference", "unit", "before", "ratio", "spread", "target", "")]
    for row in rows:
        sign = ">=" if row["higher_is_better"] else "<="
        met = {True: "met", False: "MISSED", None: ""}[row["met"]]
        target = "" if row["target"] is None else f"{sign} {row['target']:g}"
        spread = f"{min(row['ratios']):.3g}..{max(row['ratios']):.3g}"
        old = f"{before[row['name']]['ratio']:.3g}" if row["name"] in before else ""
        figures = (f"{row['ours']:g}", f"{row['reference']:g}", row["unit"], old, f"{row['ratio']:.3g}", spread)
        lines.append((row["name"], *figures, target, met))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
