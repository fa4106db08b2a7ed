"""Copies evaluations into a package: how good the detectors and their calibrations were on labelled images."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from worker.errors import UsageError

TAKEN = ("run.json", "metrics.json", "report.html")
"""What a package takes from a folder of `fakesweep evaluate`. The predictions stay: they name other pictures."""


def copy_evaluations(paths: Sequence[Path], folder: Path) -> None:
    """Copies each of these files and folders to evaluation/1, evaluation/2 and so on. Raises UsageError."""
    for number, path in enumerate(paths, start=1):
        place = folder / "evaluation" / str(number)
        place.mkdir(parents=True)
        found = [path / name for name in TAKEN if (path / name).is_file()] if path.is_dir() else [path]
        if not found:
            raise UsageError(f"--evaluation {path}: it holds no {TAKEN[0]} and no {TAKEN[1]}; run `fakesweep evaluate`")
        for one in found:
            shutil.copyfile(one, place / _name(one.name))


def _name(name: str) -> str:
    """Returns a name that a manifest may hold."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "_-.") else "_" for char in name)
