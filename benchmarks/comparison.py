"""The result of a benchmark: our figure and that of a reference, measured in turns in one run."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Wanted = Callable[[str], bool]
"""Whether `--only` asks for the comparison with this name."""


@dataclass(frozen=True)
class Comparison:
    """One line of the table.

    `ours` and `reference` are the figures of each round, in `unit`, in the same order. `target` is the ratio that we
    want: at least this if higher is better, at most this if lower is better. None: there is no target.
    """

    name: str
    unit: str
    ours: tuple[float, ...]
    reference: tuple[float, ...]
    target: float | None
    higher_is_better: bool

    @property
    def ratios(self) -> list[float]:
        """Our figure divided by the reference, for each round."""
        return [ours / reference for ours, reference in zip(self.ours, self.reference, strict=True)]

    @property
    def ratio(self) -> float:
        """The median over the rounds. Both figures of a round were measured close together, so noise hits both."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool | None:
        """Whether the ratio meets the target, or None without a target."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.higher_is_better else self.ratio <= self.target

    def row(self) -> dict[str, Any]:
        """Returns the row for results.json."""
        return {
            "name": self.name,
            "ours": _short(statistics.median(self.ours)),
            "reference": _short(statistics.median(self.reference)),
            "unit": self.unit,
            "ratio": _short(self.ratio),
            "target": self.target,
            "higher_is_better": self.higher_is_better,
            "met": self.met,
            "ratios": [_short(ratio) for ratio in self.ratios],
        }


def in_turns(
    ours: Callable[[], float], reference: Callable[[], float], rounds: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the figures of both for each round. The order of the two changes from round to round."""
    figures: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        both = [(ours, figures[0]), (reference, figures[1])]
        for measure, found in both if number % 2 == 0 else reversed(both):
            found.append(measure())
    return tuple(figures[0]), tuple(figures[1])


def selection(only: Iterable[str]) -> Wanted:
    """Makes the filter of `--only`: `host_path` selects itself and `host_path.*`. No names select everything."""
    names = tuple(only)
    return lambda name: not names or any(name == one or name.startswith(f"{one}.") for one in names)


def _short(figure: float) -> float:
    return float(f"{figure:.4g}")
