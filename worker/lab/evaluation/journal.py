"""The folder of an evaluation. predictions.jsonl gets a line per image, so a kill loses only images in the engine."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from worker.errors import ConfigurationError
from worker.files import lock, replacing
from worker.lab.evaluation.outputs import check_folder
from worker.lab.evaluation.predictions import FILE, Prediction
from worker.wording import worded

RUN = "run.json"
METRICS = "metrics.json"
REPORT = "report.html"


class Journal:
    """The predictions of one evaluation, on disk. Only one process at a time may use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / FILE

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, run: dict[str, Any]) -> Iterator[Self]:
        """Opens the folder's journal, new or old. `run` says what would change a prediction.

        Raises ConfigurationError if the folder cannot be written or holds another evaluation, or if another process
        writes to it.
        """
        check_folder(folder, "--output")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / RUN).open("a+", encoding="utf-8") as file:
            lock(file, f"--output: another process writes {folder}; wait for it to end")
            file.seek(0)
            if before := file.read():
                _check_same(before, run, folder)
            elif (folder / FILE).exists():
                raise ConfigurationError(f"--output: {folder} holds predictions of unknown origin; give another folder")
            else:
                file.write(json.dumps(run, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            yield cls(folder)

    def predictions(self) -> list[Prediction]:
        """Returns the predictions that are there already. Removes a last line that a kill cut off."""
        if not self._path.exists():
            return []
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
        return read_predictions(self._path)

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Appends predictions and waits until they are on disk."""
        with self._path.open("ab") as file:
            file.writelines(f"{one.model_dump_json()}\n".encode() for one in predictions)
            file.flush()
            os.fsync(file.fileno())

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Replaces metrics.json as a whole."""
        with replacing(self.folder / METRICS) as file:
            file.write(json.dumps(metrics, indent=1) + "\n")


def check_output(folder: Path, run: dict[str, Any]) -> None:
    """Refuses what Journal.opened() would refuse, as far as this part of `run` shows. It needs no detector."""
    check_folder(folder, "--output")
    file = folder / RUN
    if file.is_file() and (before := file.read_text(encoding="utf-8", errors="replace")):
        _check_same(before, run, folder)


def _check_same(text: str, run: dict[str, Any], folder: Path) -> None:
    try:
        before = json.loads(text)
        changed = [name for name in run if before.get(name) != run[name]]
    except (ValueError, AttributeError):
        raise ConfigurationError(
            f"--output: {folder / RUN} is not what an evaluation writes; give another folder"
        ) from None
    if changed:
        raise ConfigurationError(
            f"--output: {folder} holds another evaluation ({', '.join(changed)} differ); give another folder"
        )


def read_predictions(path: Path) -> list[Prediction]:
    """Reads all lines of a predictions.jsonl, or of the one in a folder. Raises ConfigurationError with a bad line."""
    path = path / FILE if path.is_dir() else path
    try:
        with path.open(encoding="utf-8") as file:
            return [_parsed(line, number, path) for number, line in enumerate(file, start=1)]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}); give the --output of fakesweep evaluate") from None


def _parsed(line: str, number: int, path: Path) -> Prediction:
    try:
        return Prediction.model_validate_json(line)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "line"
        raise ConfigurationError(f"{path}, line {number}: {where}: {worded(fault)}") from None
