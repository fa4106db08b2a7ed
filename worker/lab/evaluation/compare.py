"""Compares two detectors on the same images: which one is right where, and whether that may be chance."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from sklearn.metrics import cohen_kappa_score, roc_auc_score

from worker.errors import ConfigurationError
from worker.lab.evaluation.confidence import LEVEL
from worker.lab.evaluation.evaluated import Evaluated
from worker.lab.evaluation.figures import rights
from worker.lab.evaluation.paired import difference_interval, holm, mcnemar
from worker.lab.evaluation.predictions import Prediction
from worker.lab.evaluation.trained import learned


@dataclass(frozen=True)
class Pair:
    """What both detectors said of one image."""

    a: Prediction
    b: Prediction

    @property
    def same_content(self) -> bool | None:
        """Whether both saw the same bytes. None if a prediction has no hash of them."""
        return self.a.sha256 == self.b.sha256 if self.a.sha256 and self.b.sha256 else None


@dataclass(frozen=True)
class Duel:
    """The 2 x 2 table of right and wrong over some images. Undecided is wrong. `only_a`: A is right and B is not.

    `difference` is A's accuracy minus B's. worker.lab.evaluation.paired defines `p` and the interval `low` to `high` of
    the difference.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    accuracy_a: float
    accuracy_b: float
    difference: float
    low: float
    high: float
    p: float

    @property
    def images(self) -> int:
        """How many images the table covers."""
        return self.both + self.only_a + self.only_b + self.neither


@dataclass(frozen=True)
class Group:
    """A duel over the images of one category or generator. `p_holm` is corrected for the other groups of its kind."""

    name: str
    duel: Duel
    p_holm: float

    @property
    def winner(self) -> str | None:
        """A or B, if the difference is significant after the correction."""
        return winner(self.duel, self.p_holm)


@dataclass(frozen=True)
class Comparison:
    """A and B on the images that both judged.

    `only_in_a` and `only_in_b` name the other images, and `other_content` those whose bytes differ. All of them are
    left out. The areas under the ROC curve are over the `scored` images, to which both gave a score; None if these lack
    a class. `kappa` covers the words fake, real and undecided (Cohen 1960); None if both said the same word of all
    images. `disagreements` are the images with different words.
    """

    duel: Duel
    scored: int
    roc_auc_a: float | None
    roc_auc_b: float | None
    kappa: float | None
    categories: tuple[Group, ...]
    generators: tuple[Group, ...]
    disagreements: tuple[Pair, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    other_content: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def winner(self) -> str | None:
        """A or B, if the difference over all images is significant."""
        return winner(self.duel, self.duel.p)


def compare(a: Evaluated, b: Evaluated) -> Comparison:
    """Compares two evaluations. Raises ConfigurationError if they share no image, or label one differently."""
    of_a, of_b = ({one.image: one for one in made.predictions} for made in (a, b))
    named_alike = [Pair(one, of_b[image]) for image, one in of_a.items() if image in of_b]
    pairs = [pair for pair in named_alike if pair.same_content is not False]
    _check_shared(a, b, named_alike, pairs)
    _check_labels(pairs)
    scored = [pair for pair in pairs if pair.a.score is not None and pair.b.score is not None]
    return Comparison(
        duel(pairs),
        len(scored),
        roc_auc_a=_roc_auc([pair.a for pair in scored]),
        roc_auc_b=_roc_auc([pair.b for pair in scored]),
        kappa=_kappa(pairs),
        categories=groups(pairs, lambda one: one.category),
        generators=groups(pairs, lambda one: one.generator),
        disagreements=tuple(pair for pair in pairs if pair.a.verdict != pair.b.verdict),
        only_in_a=tuple(image for image in of_a if image not in of_b),
        only_in_b=tuple(image for image in of_b if image not in of_a),
        other_content=tuple(pair.a.image for pair in named_alike if pair.same_content is False),
        warnings=tuple(_warnings(a, b, pairs)),
    )


def duel(pairs: Sequence[Pair]) -> Duel:
    """Returns the table over these images, at least one."""
    right_a, right_b = (rights(one) for one in ([pair.a for pair in pairs], [pair.b for pair in pairs]))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    low, high = difference_interval(only_a, only_b, len(pairs))
    return Duel(
        int((right_a & right_b).sum()), only_a, only_b, int((~right_a & ~right_b).sum()),
        accuracy_a=float(right_a.mean()), accuracy_b=float(right_b.mean()),
        difference=(only_a - only_b) / len(pairs), low=low, high=high,
        p=mcnemar(only_a, only_b),
    )  # fmt: skip


def groups(pairs: Iterable[Pair], named: Callable[[Prediction], str | None]) -> tuple[Group, ...]:
    """Returns a duel for each name in A's predictions, sorted by name. Images without a name are left out."""
    own = sorted(((name, pair) for pair in pairs if (name := named(pair.a)) is not None), key=lambda one: one[0])
    duels = {name: duel([pair for _, pair in some]) for name, some in groupby(own, key=lambda one: one[0])}
    corrected = holm([one.p for one in duels.values()])
    return tuple(Group(name, one, p) for (name, one), p in zip(duels.items(), corrected, strict=True))


def winner(of: Duel, p: float) -> str | None:
    """Returns A or B, whichever is right more often, if `p` is below 5 %."""
    if p >= 1 - LEVEL:
        return None
    return "A" if of.only_a > of.only_b else "B"


def _warnings(a: Evaluated, b: Evaluated, pairs: Iterable[Pair]) -> Iterator[str]:
    yield from learned(a, b)
    known = all(pair.same_content for pair in pairs)
    same = "the compared images have the same content" if known else "not all contents could be compared"
    if a.dataset and b.dataset and a.dataset != b.dataset:
        yield f"A and B are of two datasets: {same}"
    if a.images and b.images and a.images.rstrip("/") != b.images.rstrip("/"):
        yield f"A's images are from {a.images}, B's from {b.images}: {same}"
    if a.explain and b.explain and a.explain != b.explain:
        yield (f"A explained {a.explain} of its answers, B {b.explain}: they were asked differently, "
               "which may explain a difference")  # fmt: skip
    if a.detector and b.detector and a.detector["fingerprint"] == b.detector["fingerprint"]:
        yield f"A and B are the same detector (fingerprint {a.detector['fingerprint'][:12]}…)"


def _check_shared(a: Evaluated, b: Evaluated, named_alike: Sequence[Pair], pairs: Sequence[Pair]) -> None:
    if not named_alike:
        raise ConfigurationError(
            f"A and B share no image ({a.predictions[0].image} and {b.predictions[0].image} are the first ones): "
            "evaluate both on one dataset"
        )
    if not pairs:
        raise ConfigurationError(
            f"A and B share no image: all {len(named_alike)} of the same name, such as {named_alike[0].a.image}, have "
            "another content in B than in A; evaluate both on the same files"
        )


def _check_labels(pairs: Iterable[Pair]) -> None:
    different = [pair.a.image for pair in pairs if pair.a.label != pair.b.label]
    if different:
        raise ConfigurationError(
            f"A and B label {len(different)} images differently, such as {different[0]}: evaluate both on one dataset"
        )


def _roc_auc(scored: Sequence[Prediction]) -> float | None:
    is_fake = [one.is_fake for one in scored]
    return float(roc_auc_score(is_fake, [one.score for one in scored])) if len(set(is_fake)) > 1 else None


def _kappa(pairs: Sequence[Pair]) -> float | None:
    of_a, of_b = [pair.a.verdict.value for pair in pairs], [pair.b.verdict.value for pair in pairs]
    if len({*of_a, *of_b}) == 1:
        return None
    return float(cohen_kappa_score(of_a, of_b))
