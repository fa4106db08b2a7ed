"""Writes every paid answer to disk, one per line, before it is used. So no answer is paid for twice after a kill.

The first line says what would change an answer. A run with another dataset, other prompts or other models is refused.
"""

import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.errors import ConfigurationError
from worker.files import lock
from worker.wording import first_fault


class Answered(BaseModel):
    """One finished request. `step`: 1 to n are the annotators, 0 is the aggregator.

    If several have the same image and step, the later ones were asked because the earlier ones were malformed. Tokens
    are None if the endpoint did not say.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: str
    step: int = Field(ge=0)
    model: str
    text: str
    cut_off: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None


class Journal:
    """The answers of one output. Only one process at a time may use it."""

    def __init__(self, file: IO[bytes], answers: list[Answered]) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._answers: dict[str, list[Answered]] = defaultdict(list)
        for answer in answers:
            self._answers[answer.image].append(answer)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, run: dict[str, Any]) -> Iterator[Self]:
        """Opens the journal at `path`, new or old. Raises ConfigurationError if it is of another run, or in use."""
        with path.open("a+b") as file:
            lock(file, f"--output: another process writes {path}; wait for it to end")
            file.seek(0)
            first, *lines = _whole_lines(file) or [b""]
            if first:
                _check_same(first, run, path)
            else:
                _append(file, json.dumps(run))
            yield cls(file, [_parsed(line, number, path) for number, line in enumerate(lines, start=2)])

    def answers(self) -> Iterator[Answered]:
        """Yields all answers that were there when it was opened and that were not taken yet."""
        for of_image in self._answers.values():
            yield from of_image

    def take(self, image: str) -> list[Answered]:
        """Returns the answers for an image, in the order of its requests, and forgets them to save memory."""
        return self._answers.pop(image, [])

    def add(self, answer: Answered) -> None:
        """Appends an answer and waits until it is on disk."""
        with self._lock:
            _append(self._file, answer.model_dump_json())


def _append(file: IO[bytes], line: str) -> None:
    file.write(f"{line}\n".encode())
    file.flush()
    os.fsync(file.fileno())


def _whole_lines(file: IO[bytes]) -> list[bytes]:
    """Returns the lines of a file. Removes the last one if a kill cut it off."""
    content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    file.truncate(len(whole))
    return whole.splitlines()


def _check_same(first: bytes, run: dict[str, Any], path: Path) -> None:
    try:
        before = dict(json.loads(first))
    except (ValueError, TypeError):
        raise ConfigurationError(f"--output: {path} is not a journal of annotations; give another file") from None
    changed = [name for name in run if before.get(name) != run[name]]
    if changed:
        differ = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(run[name])}" for name in changed)
        raise ConfigurationError(f"--output: {path} belongs to another run ({differ}); give another --output")


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004 - of a line


def _parsed(line: bytes, number: int, path: Path) -> Answered:
    try:
        return Answered.model_validate_json(line)
    except ValidationError as error:
        said = first_fault(error)
        raise ConfigurationError(f"{path}, line {number}: {said}; remove the line to ask again") from None
