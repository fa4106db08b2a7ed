"""Finds the outputs of a classifier that mean fake, and those that mean real."""

from collections.abc import Mapping

from worker.detector.description import Labels
from worker.errors import ConfigurationError


def label_numbers(labels: Labels, id2label: Mapping[int, str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the numbers of the model's outputs that mean fake, and of those that mean real.

    Raises ConfigurationError if a label is unknown, or if a model with several outputs has no label for real.
    """
    numbers = {label: number for number, label in id2label.items()} | {number: number for number in id2label}
    unknown = [one for one in (*labels.fake, *labels.real) if one not in numbers]
    if unknown:
        raise ConfigurationError(
            f"FAKESWEEP_DETECTOR: labels: the model has no label {unknown[0]!r}; it has {', '.join(id2label.values())}"
        )
    if bool(labels.real) == (len(id2label) == 1):
        raise ConfigurationError(
            f"FAKESWEEP_DETECTOR: labels.real: the model has {len(id2label)} outputs; "
            "name the labels that mean real, and none for a model with a single output"
        )
    return tuple(numbers[one] for one in labels.fake), tuple(numbers[one] for one in labels.real)
