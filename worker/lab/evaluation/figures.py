"""The figures of a leaderboard: how good a detector is on some images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from worker.detector.verdicts import Answer
from worker.lab.evaluation.confidence import wilson
from worker.lab.evaluation.evaluated import Floats, Truths
from worker.lab.evaluation.predictions import Prediction

FALSE_POSITIVE_RATE = 0.01
"""At which share of false alarms the share of caught fakes is given."""


@dataclass(frozen=True)
class Figures:
    """How good a detector is on some images. Every share is in 0..1.

    Undecided is always wrong: for `accuracy`, and for `roc_auc`, where such a fake has the lowest score and such a real
    image the highest one. Otherwise a detector could win by deciding only what is easy. `roc_auc` is None if a class is
    missing. `true_positive_rate` is the share of fakes with a higher score than all but FALSE_POSITIVE_RATE of the real
    images; None if the images are too few to tell. At this threshold nothing undecided is flagged. The intervals are
    Wilson's 95 % intervals of the accuracy and of that rate.
    """

    images: int
    fakes: int
    accuracy: float
    accuracy_interval: list[float]
    roc_auc: float | None
    true_positive_rate: float | None
    rate_interval: list[float] | None
    undecided: float


def figures_of(predictions: Sequence[Prediction]) -> Figures:
    """Returns the figures over these predictions, at least one."""
    is_fake = np.array([one.is_fake for one in predictions], dtype=np.bool_)
    score = np.array([math.nan if one.score is None else one.score for one in predictions])
    right, fakes, caught = int(rights(predictions).sum()), int(is_fake.sum()), _caught(is_fake, score)
    return Figures(
        images=len(predictions),
        fakes=fakes,
        accuracy=right / len(predictions),
        accuracy_interval=wilson(right, len(predictions)),
        roc_auc=_roc_auc(is_fake, score),
        true_positive_rate=None if caught is None else caught / fakes,
        rate_interval=None if caught is None else wilson(caught, fakes),
        undecided=sum(one.verdict is Answer.UNDECIDED for one in predictions) / len(predictions),
    )


def rights(predictions: Sequence[Prediction]) -> Truths:
    """Returns for each prediction whether the detector's own word is the label."""
    return np.array([one.verdict is (Answer.FAKE if one.is_fake else Answer.REAL) for one in predictions], np.bool_)


def _roc_auc(is_fake: Truths, score: Floats) -> float | None:
    if len(np.unique(is_fake)) == 1:
        return None
    return float(roc_auc_score(is_fake, np.where(np.isnan(score), np.where(is_fake, -1.0, 2.0), score)))


def _caught(is_fake: Truths, score: Floats) -> int | None:
    """Returns how many fakes have a higher score than all real images but the allowed share."""
    flagged = np.where(np.isnan(score), -1.0, score)
    real = np.sort(flagged[~is_fake])[::-1]
    allowed = math.floor(FALSE_POSITIVE_RATE * len(real) + 1e-9)  # 0.01 * 700 is a little more than 7
    if not allowed or not is_fake.any():
        return None
    return int((flagged[is_fake] > real[allowed]).sum())
