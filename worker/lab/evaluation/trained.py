"""Tells whether a detector is evaluated on the images that it was trained on."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from worker.lab.evaluation.evaluated import Evaluated

_RECORD = "training.json"  # `fakesweep train` leaves it in the folder of the model


def trained_on(folders: Iterable[Path]) -> tuple[str, ...]:
    """Returns the SHA-256 of each dataset that the models in these folders were trained on, as far as they say so."""
    found = set()
    for folder in folders:
        try:
            found.add(str(json.loads((folder / _RECORD).read_text(encoding="utf-8"))["dataset"]))
        except (OSError, ValueError, KeyError, TypeError):  # no training of ours
            continue
    return tuple(sorted(found))


def has_learned(one: Evaluated) -> bool:
    """Whether the evaluation is on the very dataset that its detector was trained on, as far as that is known."""
    return one.dataset in one.trained_on


def learned(*made: Evaluated) -> Iterator[str]:
    """Yields a warning for each evaluation on the very dataset that its detector was trained on."""
    for one in made:
        if has_learned(one):
            name = (one.detector or {}).get("name", "its detector")
            yield (f"{one.name} is on the dataset that {name} was trained on, so its figures are too good: evaluate it "
                   "on images that it has not learned")  # fmt: skip
