"""Collects the records of a dataset that cannot be used, counts them by cause, and names their lines."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from worker.errors import ConfigurationError
from worker.files import replacing
from worker.lab.datasets.reading import read_dataset
from worker.lab.datasets.records import Fault, Record

FAULTS = "faults.jsonl"
SAID = 20
"""How many faults are named on the terminal. A file has all of them."""

Say = Callable[[str], None]


class Faults(list[Fault]):
    """The records that are not used. With `strict`, the first fault raises ConfigurationError."""

    def __init__(self, *, strict: bool = False) -> None:
        super().__init__()
        self._strict = strict

    def add(self, fault: Fault) -> None:
        """Adds a fault."""
        if self._strict:
            raise ConfigurationError(f"--strict: {fault}")
        self.append(fault)

    @property
    def causes(self) -> dict[str, int]:
        """How many faults each cause has, the most frequent first."""
        return dict(Counter(str(fault.cause) for fault in self).most_common())


def read_records(dataset: Path, faults: Faults) -> list[Record]:
    """Returns the usable records and adds the others to `faults`. Raises ConfigurationError if none is usable."""
    records: list[Record] = []
    for found in read_dataset(dataset):
        if isinstance(found, Record):
            records.append(found)
        else:
            faults.add(found)
    if not records:
        first = f"; the first fault: {faults[0]}" if faults else ""
        raise ConfigurationError(f"DATASET: {dataset} holds no record that can be used{first}")
    return records


def say_faults(faults: Faults, where: Path, say: Say) -> None:
    """Prints the first faults, how many there are of each cause, and where all of them are listed."""
    for fault in faults[:SAID]:
        say(str(fault))
    if faults:
        counted = ", ".join(f"{count} {cause}" for cause, count in faults.causes.items())
        say(f"{len(faults)} not used ({counted}); all of them are named in {where}")


def write_faults(faults: Sequence[Fault], path: Path) -> None:
    """Replaces the file at `path` as a whole. It gets one line per fault, in the dataset's order."""
    lines = (
        json.dumps({"line": one.line, "image": one.image, "cause": one.cause, "detail": one.detail})
        for one in sorted(faults, key=lambda one: one.line)
    )
    with replacing(path) as file:
        file.writelines(f"{line}\n" for line in lines)
