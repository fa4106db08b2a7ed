"""Finds the outputs of a classifier that mean fake, and those that mean real."""

from collections import Counter
from collections.abc import Mapping

from worker.detector.description import Labels
from worker.errors import ConfigurationError


def label_numbers(labels: Labels, id2label: Mapping[int, str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the numbers of the model's outputs that mean fake, and of those that mean real.

    Raises ConfigurationError if a label is unknown or names several outputs, if an output is named twice, in one
    spelling or in two, and if a model with several outputs has no label for real.
    """
    named: Counter[str | int] = Counter(id2label.values())
    for one in (*labels.fake, *labels.real):
        if one not in named and one not in id2label:
            raise _refusal(f"labels: the model has no label {one!r}; it has {', '.join(id2label.values())}")
        if named[one] > 1:
            raise _refusal(f"labels: {named[one]} outputs of the model are called {one!r}; give their numbers")
    numbers = {label: number for number, label in id2label.items()} | {number: number for number in id2label}
    fake, real = (tuple(numbers[one] for one in of) for of in (labels.fake, labels.real))
    output, times = Counter((*fake, *real)).most_common(1)[0]
    if times > 1:
        raise _refusal(f"labels: output {output} ({id2label[output]!r}) is named {times} times; name each output once")
    if bool(real) == (len(id2label) == 1):
        raise _refusal(
            f"labels.real: the model has {len(id2label)} outputs; "
            "name the labels that mean real, and none for a model with a single output"
        )
    return fake, real


def _refusal(text: str) -> ConfigurationError:
    return ConfigurationError(f"FAKESWEEP_DETECTOR: {text}")
