"""Compares a stack with the best of its detectors, on images that neither was fitted on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from worker.detector.verdicts import Answer
from worker.lab.evaluation.compare import Duel, Pair, duel, winner
from worker.lab.evaluation.confidence import LEVEL
from worker.lab.evaluation.evaluated import Evaluated, Floats, Truths
from worker.lab.evaluation.predictions import Prediction
from worker.lab.evaluation.thresholds import EVEN

RESAMPLES = 1000

Chosen = NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """A figure of the stack and of the best detector, and their difference with its paired 95 % interval."""

    stack: float
    best: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """The stack against its best detector alone. The best one is chosen on FIT, and a slope and an offset are fitted to
    it there, so that the stack gains nothing from being calibrated.

    `duel` compares words: A is the stack, B is the detector, and both say fake from a score of 0.5 on. Undecided is
    wrong. `roc_auc` and `log_loss` (in nats; smaller is better) are over the `scored` images that the stack decided.
    """

    best: str
    scored: int
    duel: Duel
    roc_auc: Difference
    log_loss: Difference

    @property
    def helps(self) -> bool:
        """Whether the stack is shown to be better: the interval of the ROC AUC is above 0, and it does not lose too
        much by being undecided.
        """
        return self.roc_auc.low > 0 and not self.loses

    @property
    def loses(self) -> bool:
        """Whether the detector alone is right on more images, by McNemar's test. Undecided is wrong."""
        return winner(self.duel, self.duel.p) == "B"

    def sentence(self) -> str:
        """Returns in one sentence whether the stack helps."""
        if self.loses:
            undecided = 1 - self.scored / self.duel.images
            return (f"{self.best} alone is right more often than the stack, which is undecided on {undecided:.1%} of "
                    "the images")  # fmt: skip
        if self.helps:
            return f"the stack is better than {self.best} alone on images like these"
        return f"the stack is not shown to be better than {self.best} alone"

    def doubts(self) -> Iterator[str]:
        """Yields what somebody must know before they use the stack."""
        if self.roc_auc.high < 0:
            yield f"the stack is worse than {self.best} alone: use that detector"
        elif self.loses:
            yield f"{self.sentence()}: use that detector"
        elif not self.helps:
            yield f"{self.sentence()}: use that detector, or evaluate on more images"


def gain(stack: Evaluated, scores: Floats, best: Evaluated, best_scores: Floats, *, resamples: int) -> Gain:
    """Compares scores of the same images, of the shape (images,), NaN where undecided.

    Intervals are of a paired percentile bootstrap over the images (Efron and Tibshirani 1993, ch. 13).
    """
    decided = ~np.isnan(scores)
    is_fake, ours, theirs = stack.is_fake[decided], scores[decided], best_scores[decided]
    pairs = [
        Pair(_said(a, own), _said(b, other))
        for a, own, b, other in zip(stack.predictions, scores, best.predictions, best_scores, strict=True)
    ]
    chance = np.random.default_rng(0)
    drawn = [chance.integers(len(is_fake), size=len(is_fake)) for _ in range(resamples)]
    drawn = [one for one in drawn if 0 < is_fake[one].sum() < len(one)]  # without a class, there is no ROC AUC
    return Gain(
        str((best.detector or {})["name"]), len(is_fake), duel(pairs),
        roc_auc=_difference(lambda score, one: roc_auc(score[one], is_fake[one]), ours, theirs, drawn),
        log_loss=_difference(lambda score, one: float(image_losses(score[one], is_fake[one]).mean()), ours, theirs,
                             drawn),
    )  # fmt: skip


def image_losses(scores: Floats, is_fake: Truths) -> Floats:
    """Returns the negative log likelihood of each image in nats, of the shape (images,). It is never infinite."""
    tiny = np.finfo(np.float64).eps
    of_truth = np.where(is_fake, scores, 1 - scores)
    return np.asarray(-np.log(np.clip(of_truth, tiny, 1)), dtype=np.float64)


def roc_auc(scores: Floats, is_fake: Truths) -> float:
    """Returns the area under the ROC curve from the ranks of the fakes (Hanley and McNeil 1982).

    scikit-learn's function gives the same, but checks its arguments for longer than a resample takes.
    """
    fakes = int(is_fake.sum())
    above = float(rankdata(scores)[is_fake].sum()) - fakes * (fakes + 1) / 2
    return above / (fakes * (len(scores) - fakes))


def _difference(
    figure: Callable[[Floats, Chosen], float], ours: Floats, theirs: Floats, drawn: Sequence[Chosen]
) -> Difference:
    every = np.arange(len(ours))
    differences = [figure(ours, one) - figure(theirs, one) for one in drawn] or [0.0]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(differences, [tail, 100 - tail]).tolist()
    of_stack, of_best = figure(ours, every), figure(theirs, every)
    return Difference(of_stack, of_best, of_stack - of_best, low, high)


def _said(prediction: Prediction, score: float) -> Prediction:
    word = Answer.UNDECIDED if np.isnan(score) else Answer.FAKE if score >= EVEN else Answer.REAL
    return prediction.model_copy(update={"verdict": word})
