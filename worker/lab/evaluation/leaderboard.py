"""Ranks several detectors on several sets of labelled images, from their predictions alone.

In each set, only images count that all of its detectors judged: otherwise a detector could win because others had the
harder images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from worker.lab.evaluation.confidence import LEVEL
from worker.lab.evaluation.contenders import Contender, LabelledSet
from worker.lab.evaluation.evaluated import Truths
from worker.lab.evaluation.figures import Figures, figures_of, rights
from worker.lab.evaluation.paired import holm, mcnemar
from worker.lab.evaluation.perturbations import CLEAN, PERTURBATIONS
from worker.lab.evaluation.predictions import Prediction

MEANS = ("roc_auc", "accuracy", "true_positive_rate")
GROUPS: Mapping[str, Callable[[Prediction], str | None]] = {
    "categories": lambda one: one.category,
    "generators": lambda one: one.generator,
}
PERTURBED = "perturbations"


@dataclass(frozen=True)
class Group:
    """Images of a kind: their number, and each detector's accuracy, None if it judged none of them."""

    name: str
    images: int
    accuracy: Mapping[str, float | None]


@dataclass(frozen=True)
class Row:
    """A detector on a set. `p_holm` is McNemar's test against the most accurate one, None for that one itself. It is
    corrected for all pairs of the set, because the images also choose who is the best. `trained_on_it`: the detector
    was trained on this very set, so its figures are too good.
    """

    detector: str
    figures: Figures
    p_holm: float | None
    trained_on_it: bool = False

    @property
    def may_be_best(self) -> bool:
        """Whether it is the most accurate one of its set, or not shown to differ from that one."""
        return self.p_holm is None or self.p_holm >= 1 - LEVEL


@dataclass(frozen=True)
class SetBoard:
    """The detectors on one set, the most accurate first. `left_out`: how many images not all of them judged.

    `groups` are by categories, generators and perturbations; a kind that the set does not have is missing.
    """

    name: str
    rows: tuple[Row, ...]
    left_out: int
    groups: Mapping[str, tuple[Group, ...]]


@dataclass(frozen=True)
class Standing:
    """A detector over all sets. Each set counts the same in the means. `place` and the means are None if it did not
    judge every set. `worst` is the lowest accuracy, and the set where it is. `speed` is in images a second, and `cost`
    is for 1,000 images, in the currency of the price. `trained_on` names the sets that the detector was trained on: its
    means and its place are too good.
    """

    detector: str
    sets: int
    roc_auc: float | None
    accuracy: float | None
    true_positive_rate: float | None
    worst: tuple[float, str]
    speed: float | None
    cost: float | None
    place: int | None = None
    trained_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leaderboard:
    """All detectors, those with a place first, and all sets.

    `averaged` says over how many sets each mean goes: a set without real images has no ROC AUC, for example.
    """

    standings: tuple[Standing, ...]
    sets: tuple[SetBoard, ...]
    averaged: Mapping[str, int]


def rank(sets: Sequence[LabelledSet], speeds: Mapping[str, float], price_per_hour: float | None) -> Leaderboard:
    """Ranks the detectors of these sets by their mean ROC AUC, and then by their mean accuracy.

    `speeds`: images a second, by detector.
    """
    boards = tuple(map(_board, sets))
    usable = {
        name: [board for board in boards if all(getattr(row.figures, name) is not None for row in board.rows)]
        for name in MEANS
    }
    names = dict.fromkeys(row.detector for board in boards for row in board.rows)
    standings = [_standing(name, boards, usable, speeds.get(name), price_per_hour) for name in names]
    standings.sort(key=lambda one: (one.accuracy is None, -(one.roc_auc or 0), -(one.accuracy or 0), one.detector))
    placed = [replace(one, place=None if one.accuracy is None else n) for n, one in enumerate(standings, start=1)]
    return Leaderboard(tuple(placed), boards, {name: len(some) for name, some in usable.items()})


def _standing(
    detector: str,
    boards: Sequence[SetBoard],
    usable: Mapping[str, Sequence[SetBoard]],
    speed: float | None,
    price_per_hour: float | None,
) -> Standing:
    rows = {board.name: row for board in boards for row in board.rows if row.detector == detector}
    own = {name: row.figures for name, row in rows.items()}
    means = {
        name: sum(getattr(own[board.name], name) for board in some) / len(some)
        if some and len(own) == len(boards)
        else None
        for name, some in usable.items()
    }
    return Standing(
        detector,
        len(own),
        **means,
        worst=min((figures.accuracy, name) for name, figures in own.items()),
        speed=speed,
        cost=None if price_per_hour is None or not speed else price_per_hour / 3600 / speed * 1000,
        trained_on=tuple(name for name, row in rows.items() if row.trained_on_it),
    )


def _board(labelled: LabelledSet) -> SetBoard:
    shared = labelled.shared()
    clean = {one.detector: one.chosen(CLEAN, shared) for one in labelled.contenders}
    right = {name: rights(some) for name, some in clean.items()}
    best = max(right, key=lambda name: int(right[name].sum()))
    p_values = _p_values(right)
    trained = {one.detector for one in labelled.contenders if one.has_learned}
    rows = [
        Row(name, figures_of(some), None if name == best else p_values[frozenset((name, best))], name in trained)
        for name, some in clean.items()
    ]
    groups = {kind: _groups(list(clean.values()), right, of) for kind, of in GROUPS.items()}
    groups[PERTURBED] = _perturbed(labelled)
    return SetBoard(
        labelled.name,
        tuple(sorted(rows, key=lambda row: (row.detector != best, -row.figures.accuracy, row.detector))),
        len(labelled.known) - len(shared),
        {kind: some for kind, some in groups.items() if some},
    )


def _p_values(right: Mapping[str, Truths]) -> dict[frozenset[str], float]:
    """Returns McNemar's test of each pair, corrected by Holm for all of them."""
    pairs = list(combinations(right, 2))
    tests = [
        mcnemar(int((right[a] & ~right[b]).sum()), int((right[b] & ~right[a]).sum())) for a, b in pairs
    ]  # fmt: skip
    return dict(zip(map(frozenset, pairs), holm(tests), strict=True))


def _groups(
    clean: Sequence[Sequence[Prediction]], right: Mapping[str, Truths], of: Callable[[Prediction], str | None]
) -> tuple[Group, ...]:
    """Returns the groups of the images, each with the same images for all detectors: the first name that is known."""
    names = [next((name for one in some if (name := of(one)) is not None), None) for some in zip(*clean, strict=True)]
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if name is not None:
            places.setdefault(name, []).append(place)
    return tuple(
        Group(name, len(own), {detector: float(truths[own].mean()) for detector, truths in right.items()})
        for name, own in sorted(places.items())
    )


def _perturbed(labelled: LabelledSet) -> tuple[Group, ...]:
    """Returns a group for each perturbation, with `clean` before them to compare. Empty if none was judged."""
    judged = {name for one in labelled.contenders for name in one.by_perturbation}
    names = [name for name in PERTURBATIONS if name in judged] if judged - {CLEAN} else []
    return tuple(Group(name, len(images), _accuracies(labelled.contenders, name, images))
                 for name in names for images in (labelled.shared(name),))  # fmt: skip


def _accuracies(contenders: Sequence[Contender], perturbation: str, images: frozenset[str]) -> dict[str, float | None]:
    chosen = {one.detector: one.chosen(perturbation, images) for one in contenders}
    return {name: float(rights(some).mean()) if some else None for name, some in chosen.items()}
