"""Copies evaluations into a package: how good the detectors and their calibrations were on labelled images."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from producers.audit.digests import FOLDER
from producers.audit.manifest import LONGEST_PATH
from worker.errors import UsageError

TAKEN = ("run.json", "metrics.json")
"""What a package takes from a folder of `fakesweep evaluate`. The predictions and the report stay: they name pictures.
Both files say in which folder the pictures were (`images`).
"""


def copy_evaluations(paths: Sequence[Path], folder: Path) -> None:
    """Copies each of these files and folders to evaluation/1, evaluation/2 and so on. Raises UsageError."""
    for number, path in enumerate(paths, start=1):
        place = folder / "evaluation" / str(number)
        place.mkdir(parents=True)
        found = [path / name for name in TAKEN if (path / name).is_file()] if path.is_dir() else [path]
        if not found:
            raise UsageError(f"--evaluation {path}: it holds no {TAKEN[0]} and no {TAKEN[1]}; run `fakesweep evaluate`")
        for one in found:
            shutil.copyfile(one, place / _name(one, number))


def _name(file: Path, number: int) -> str:
    """Returns a name that a manifest may hold. Raises UsageError if it is too long."""
    most = LONGEST_PATH - len(f"{FOLDER}evaluation/{number}/")
    if len(file.name) > most:
        raise UsageError(f"--evaluation {file}: the name of the file may have at most {most} characters: rename it")
    name = "".join(char if char.isascii() and (char.isalnum() or char in "_-.") else "_" for char in file.name)
    return f"_{name[1:]}" if name.startswith(".") else name
