"""Reads the outputs of `fakesweep evaluate` that a leaderboard compares, and puts those of one set together."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, groupby
from pathlib import Path

from worker.errors import ConfigurationError
from worker.lab.evaluation.evaluated import Evaluated, evaluated_of
from worker.lab.evaluation.journal import RUN, read_predictions
from worker.lab.evaluation.perturbations import CLEAN
from worker.lab.evaluation.predictions import Prediction
from worker.lab.evaluation.trained import has_learned, learned

FEW = 0.9
"""A detector that judged less than this share of a set's images is named, because it takes images from all others."""
Images = frozenset[str]


@dataclass(frozen=True)
class Contender:
    """A detector on a set. `predictions` are those of unchanged and of perturbed images. `source` is its folder."""

    detector: str
    source: str
    predictions: tuple[Prediction, ...]
    evaluated: Evaluated

    @property
    def has_learned(self) -> bool:
        """Whether the detector was trained on this very set, so that its figures are too good."""
        return has_learned(self.evaluated)

    @cached_property
    def by_perturbation(self) -> Mapping[str, Mapping[str, Prediction]]:
        """The predictions by perturbation and image."""
        found: dict[str, dict[str, Prediction]] = {}
        for one in self.predictions:
            found.setdefault(one.perturbation, {})[one.image] = one
        return found

    def chosen(self, perturbation: str, images: Images) -> list[Prediction]:
        """Returns its predictions of these images, sorted by image. Empty if it did not judge this perturbation."""
        own = self.by_perturbation.get(perturbation, {})
        return [own[image] for image in sorted(images)] if own else []


@dataclass(frozen=True)
class LabelledSet:
    """A set of labelled images, and the detectors that judged it."""

    name: str
    contenders: tuple[Contender, ...]

    def shared(self, perturbation: str = CLEAN) -> Images:
        """Returns the images that were judged by all detectors which judged this perturbation, with the same bytes as
        far as is known.
        """
        own = [one.by_perturbation[perturbation] for one in self.contenders if perturbation in one.by_perturbation]
        if not own:
            return frozenset()
        return frozenset(image for image in frozenset.intersection(*map(frozenset, own)) if _is_same(own, image))

    @property
    def known(self) -> Images:
        """The images that any detector judged, unchanged."""
        return frozenset(image for one in self.contenders for image in one.by_perturbation[CLEAN])


def _is_same(own: Sequence[Mapping[str, Prediction]], image: str) -> bool:
    return len({one[image].sha256 for one in own} - {None}) <= 1


def read_sets(paths: Sequence[tuple[str | None, Path]]) -> list[LabelledSet]:
    """Reads evaluations, each with a name for its detector or None. Returns a set for each dataset, sorted by name.

    Evaluations belong to the same set if their datasets have the same SHA-256. Raises ConfigurationError if one cannot
    be read or does not name its dataset, if two are of one detector on one set, or if a set's evaluations share no
    image or label one differently.
    """
    contenders = sorted(_told_apart([_contender(*one) for one in paths]), key=_place)
    sets = [tuple(some) for _, some in groupby(contenders, key=lambda one: one.evaluated.dataset)]
    names = _free(some[0].evaluated.dataset_name or str(some[0].evaluated.dataset)[:12] for some in sets)
    read = [LabelledSet(name, some) for name, some in zip(names, sets, strict=True)]
    for one in read:
        _check(one)
    return sorted(read, key=lambda one: one.name)


def warnings(sets: Sequence[LabelledSet]) -> Iterator[str]:
    """Yields what somebody must know before they believe the places."""
    detectors = sorted({one.detector for each in sets for one in each.contenders})
    for name in detectors:
        lacking = [each.name for each in sets if name not in {one.detector for one in each.contenders}]
        if lacking:
            yield f"{name} has no place, because it did not judge {', '.join(lacking)}"
    for each in sets:
        for one in each.contenders:
            own, known = len(one.by_perturbation[CLEAN]), len(each.known)
            if own < FEW * known:
                yield f"{one.detector} judged {own:,} of {known:,} images of {each.name}, and the others are left out"
        yield from learned(*(one.evaluated for one in each.contenders))


def _place(one: Contender) -> tuple[str, str]:
    return str(one.evaluated.dataset), one.detector


def _contender(name: str | None, path: Path) -> Contender:
    predictions = read_predictions(path)
    evaluated = evaluated_of(path, predictions)
    if evaluated.detector is None or evaluated.dataset is None:
        raise ConfigurationError(
            f"{path} has no {RUN}, so its dataset is not known: give a folder that evaluate has written"
        )
    return Contender(name or str(evaluated.detector["name"]), str(path), tuple(predictions), evaluated)


def _told_apart(read: Sequence[Contender]) -> list[Contender]:
    """Gives detectors of the same name the start of their fingerprints, so that two detectors never share a name."""
    prints: dict[str, set[str]] = {}
    for one in read:
        prints.setdefault(one.detector, set()).add(_print_of(one))
    return [
        replace(one, detector=f"{one.detector} {_print_of(one)[:8]}") if len(prints[one.detector]) > 1 else one
        for one in read
    ]


def _print_of(one: Contender) -> str:
    return str((one.evaluated.detector or {})["fingerprint"])


def _free(names: Iterator[str]) -> list[str]:
    """Numbers names that are there already."""
    taken: list[str] = []
    for name in names:
        numbered = (f"{name} ({number})" for number in count(2))
        taken.append(name if name not in taken else next(one for one in numbered if one not in taken))
    return taken


def _check(labelled: LabelledSet) -> None:
    contenders = labelled.contenders
    detector, number = Counter(one.detector for one in contenders).most_common(1)[0]
    if number > 1:
        two = [one.source for one in contenders if one.detector == detector][:2]
        raise ConfigurationError(
            f"{two[0]} and {two[1]} are both of {detector} on {labelled.name}: give one of them, or names (NAME=FOLDER)"
        )
    shared = labelled.shared()
    if not shared:
        fewest = min(contenders, key=lambda one: len(one.by_perturbation[CLEAN]))
        raise ConfigurationError(
            f"the evaluations of {labelled.name} share no image: {fewest.source} has the fewest, "
            f"{len(fewest.by_perturbation[CLEAN])}; evaluate all on the same files"
        )
    first, *others = contenders
    for one in others:
        for a, b in zip(first.chosen(CLEAN, shared), one.chosen(CLEAN, shared), strict=True):
            if a.label != b.label:
                raise ConfigurationError(
                    f"{first.source} and {one.source} label {a.image} differently: evaluate both on one dataset"
                )
