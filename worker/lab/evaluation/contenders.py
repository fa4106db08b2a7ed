"""Reads the outputs of `fakesweep evaluate` that a leaderboard compares, and puts those of one set together."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

from worker.errors import ConfigurationError
from worker.lab.evaluation.evaluated import Evaluated, read_evaluated
from worker.lab.evaluation.journal import read_predictions
from worker.lab.evaluation.perturbations import CLEAN
from worker.lab.evaluation.predictions import Prediction

Images = frozenset[str]


@dataclass(frozen=True)
class Contender:
    """A detector on a set. `predictions` are those of unchanged and of perturbed images."""

    detector: str
    source: str
    predictions: tuple[Prediction, ...]
    evaluated: Evaluated

    @cached_property
    def by_perturbation(self) -> dict[str, dict[str, Prediction]]:
        """The predictions by perturbation and image."""
        found: dict[str, dict[str, Prediction]] = {}
        for one in self.predictions:
            found.setdefault(one.perturbation, {})[one.image] = one
        return found

    def has(self, perturbation: str) -> bool:
        """Whether it judged any image under this perturbation."""
        return perturbation in self.by_perturbation

    def chosen(self, perturbation: str, images: Images) -> list[Prediction]:
        """Returns its predictions of these images, sorted by image. Empty if it did not judge this perturbation."""
        own = self.by_perturbation.get(perturbation, {})
        return [own[image] for image in sorted(images)] if own else []


@dataclass(frozen=True)
class LabelledSet:
    """A set of labelled images, and the detectors that judged it."""

    name: str
    contenders: tuple[Contender, ...]

    def shared(self, perturbation: str) -> Images:
        """Returns the images that every detector judged that judged any under this perturbation, with equal content."""
        own = [one.by_perturbation[perturbation] for one in self.contenders if one.has(perturbation)]
        if not own:
            return frozenset()
        return frozenset(image for image in frozenset.intersection(*map(frozenset, own)) if _is_same(own, image))

    def left_out(self, perturbation: str) -> int:
        """Returns how many images some detectors judged, but not all of them."""
        known = {image for one in self.contenders for image in one.by_perturbation.get(perturbation, {})}
        return len(known) - len(self.shared(perturbation))


def _is_same(own: Sequence[dict[str, Prediction]], image: str) -> bool:
    """Whether all saw the same bytes, as far as is known."""
    return len({one[image].sha256 for one in own} - {None}) <= 1


def read_sets(paths: Sequence[tuple[str | None, Path]]) -> list[LabelledSet]:
    """Reads evaluations, each with a name for its detector or None, and returns a LabelledSet for each dataset.

    Evaluations belong to the same set if their datasets have the same SHA-256. Raises ConfigurationError if one cannot
    be read, if two are of one detector on one set, if a set's evaluations share no image or label one differently.
    """
    read = [_contender(name, path) for name, path in paths]
    contenders = sorted(_with_own_names(read), key=lambda one: (_set_of(one), one.detector))
    sets = [tuple(some) for _, some in groupby(contenders, key=_set_of)]
    for some in sets:
        _check(some)
    names = _different([some[0].evaluated.dataset_name or Path(some[0].source).name for some in sets])
    return [LabelledSet(name, some) for name, some in sorted(zip(names, sets, strict=True), key=lambda one: one[0])]


def _contender(name: str | None, path: Path) -> Contender:
    evaluated = read_evaluated(path)
    named = name or (evaluated.detector["name"] if evaluated.detector else path.name)
    return Contender(named, str(path), tuple(read_predictions(path)), evaluated)


def _with_own_names(read: Sequence[Contender]) -> list[Contender]:
    """Gives detectors of the same name the start of their fingerprints, so that two detectors never share a name."""
    prints: dict[str, set[str]] = {}
    for one in read:
        prints.setdefault(one.detector, set()).add(_print_of(one))
    return [
        replace(one, detector=f"{one.detector} {_print_of(one)[:8]}") if len(prints[one.detector]) > 1 else one
        for one in read
    ]


def _print_of(one: Contender) -> str:
    return str(one.evaluated.detector["fingerprint"]) if one.evaluated.detector else ""


def _set_of(one: Contender) -> str:
    return one.evaluated.dataset or " ".join(sorted(each.image for each in one.evaluated.predictions))


def _different(names: Sequence[str]) -> list[str]:
    """Numbers names that are there twice."""
    count = Counter(names)
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})" if count[name] > 1 else name)
    return found


def _check(contenders: Sequence[Contender]) -> None:
    detector, number = Counter(one.detector for one in contenders).most_common(1)[0]
    if number > 1:
        two = [one.source for one in contenders if one.detector == detector][:2]
        raise ConfigurationError(f"{two[0]} and {two[1]} are of one detector, {detector}, on one set: give one of them")
    test_set = LabelledSet("", tuple(contenders))
    shared = test_set.shared(CLEAN)
    if not shared:
        raise ConfigurationError(
            f"{contenders[0].source} and the others of its set share no image: evaluate all on the same files"
        )
    first = contenders[0].by_perturbation[CLEAN]
    for one in contenders[1:]:
        for image in sorted(shared):
            if one.by_perturbation[CLEAN][image].label != first[image].label:
                raise ConfigurationError(
                    f"{one.source} and {contenders[0].source} label {image} differently: evaluate both on one dataset"
                )
