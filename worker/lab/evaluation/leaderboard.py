"""Ranks several detectors on several sets of labelled images, from their predictions alone.

In each set, only images count that all of its detectors judged: otherwise a detector could win because others had the
harder images.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from worker.lab.evaluation.confidence import LEVEL
from worker.lab.evaluation.contenders import LabelledSet
from worker.lab.evaluation.figures import Figures, figures_of
from worker.lab.evaluation.metrics import Columns, grouped, values
from worker.lab.evaluation.paired import holm, mcnemar
from worker.lab.evaluation.perturbations import CLEAN, PERTURBATIONS
from worker.lab.evaluation.predictions import Prediction

MEANS = ("accuracy", "roc_auc", "true_positive_rate")


@dataclass(frozen=True)
class Row:
    """A detector on a set. `p_holm` is McNemar's test against the most accurate one, corrected for the others of the
    set; None for that one itself. The accuracies by category, generator and perturbation are in the order of the set's
    names; None where the detector judged no such image.
    """

    detector: str
    figures: Figures
    p_holm: float | None
    categories: tuple[float | None, ...]
    generators: tuple[float | None, ...]
    perturbations: tuple[float | None, ...]

    @property
    def may_be_best(self) -> bool:
        """Whether it is the most accurate one of its set, or not shown to differ from that one."""
        return self.p_holm is None or self.p_holm >= 1 - LEVEL


@dataclass(frozen=True)
class SetBoard:
    """The detectors on one set, the most accurate first. `left_out`: how many images not all of them judged.

    A group is a name and how many images it has.
    """

    name: str
    rows: tuple[Row, ...]
    left_out: int
    categories: tuple[tuple[str, int], ...]
    generators: tuple[tuple[str, int], ...]
    perturbations: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Standing:
    """A detector over all sets. Each set counts the same in the means, which are None if a set has no such figure or
    was not judged. `worst` is the lowest accuracy, and the set where it is. `speed` is in images a second, and `cost`
    is for 1,000 images, in the currency of the price.
    """

    detector: str
    sets: int
    accuracy: float | None
    roc_auc: float | None
    true_positive_rate: float | None
    worst: tuple[float, str]
    speed: float | None
    cost: float | None


@dataclass(frozen=True)
class Leaderboard:
    """All detectors, the best mean area under the ROC curve first, and all sets."""

    standings: tuple[Standing, ...]
    sets: tuple[SetBoard, ...]


def rank(sets: Sequence[LabelledSet], speeds: Mapping[str, float], price_per_hour: float | None) -> Leaderboard:
    """Ranks the detectors of these sets. `speeds`: images a second, by detector."""
    boards = tuple(_board(one) for one in sets)
    names = dict.fromkeys(row.detector for board in boards for row in board.rows)
    standings = [_standing(name, boards, speeds.get(name), price_per_hour) for name in names]
    return Leaderboard(tuple(sorted(standings, key=_place)), boards)


def _place(standing: Standing) -> tuple[float, float, str]:
    """Detectors without a mean come last, those with more sets first."""
    return -(standing.roc_auc if standing.roc_auc is not None else -1), -standing.sets, standing.detector


def _standing(detector: str, boards: Sequence[SetBoard], speed: float | None, price_per_hour: float | None) -> Standing:
    own = [(board.name, row.figures) for board in boards for row in board.rows if row.detector == detector]
    found = {name: [getattr(figures, name) for _, figures in own] for name in MEANS}
    return Standing(
        detector,
        len(own),
        **{name: _mean(some) if len(own) == len(boards) else None for name, some in found.items()},
        worst=min((figures.accuracy, name) for name, figures in own),
        speed=speed,
        cost=None if price_per_hour is None or not speed else price_per_hour / 3600 / speed * 1000,
    )


def _mean(found: Sequence[float | None]) -> float | None:
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def _board(test_set: LabelledSet) -> SetBoard:
    shared = test_set.shared(CLEAN)
    clean = {one.detector: one.chosen(CLEAN, shared) for one in test_set.contenders}
    rights = {name: np.array([_is_right(one) for one in some]) for name, some in clean.items()}
    best = max(clean, key=lambda name: int(rights[name].sum()))
    tests = {name: _test(rights[best], right) for name, right in rights.items() if name != best}
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    first = clean[best]
    categories, generators = _names(first, lambda one: one.category), _names(first, lambda one: one.generator)
    counts = {name: test_set.shared(name) for name in _perturbations(test_set)}
    rows = [
        Row(
            one.detector,
            figures_of(clean[one.detector]),
            corrected.get(one.detector),
            _by(clean[one.detector], lambda some: some.category, categories),
            _by(clean[one.detector], lambda some: some.generator, generators),
            tuple(_accuracy(one.chosen(name, images)) for name, images in counts.items()),
        )
        for one in test_set.contenders
    ]
    return SetBoard(
        test_set.name,
        tuple(sorted(rows, key=lambda row: (-row.figures.accuracy, row.detector))),
        test_set.left_out(CLEAN),
        categories,
        generators,
        tuple((name, len(images)) for name, images in counts.items()),
    )


def _perturbations(test_set: LabelledSet) -> list[str]:
    """Returns the perturbations under which a detector judged the set, with `clean` before them to compare."""
    judged = {name for one in test_set.contenders for name in one.by_perturbation}
    return [name for name in PERTURBATIONS if name in judged] if judged - {CLEAN} else []


def _is_right(one: Prediction) -> bool:
    return one.verdict.value == ("fake" if one.is_fake else "real")


def _test(best: np.ndarray, other: np.ndarray) -> float:
    return mcnemar(int((best & ~other).sum()), int((other & ~best).sum()))


def _names(predictions: Iterable[Prediction], of: Callable[[Prediction], str | None]) -> tuple[tuple[str, int], ...]:
    names = sorted(name for one in predictions if (name := of(one)) is not None)
    return tuple((name, len(list(some))) for name, some in groupby(names))


def _by(
    predictions: Sequence[Prediction], of: Callable[[Prediction], str | None], names: Sequence[tuple[str, int]]
) -> tuple[float | None, ...]:
    found = grouped([of(one) for one in predictions], Columns.of(predictions))
    return tuple(values(found[name])["accuracy"] if name in found else None for name, _ in names)


def _accuracy(predictions: Sequence[Prediction]) -> float | None:
    return sum(map(_is_right, predictions)) / len(predictions) if predictions else None
