"""The figures of a leaderboard: how good a detector is on some images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.lab.evaluation.confidence import wilson
from worker.lab.evaluation.metrics import Columns, values
from worker.lab.evaluation.predictions import Prediction

FALSE_POSITIVE_RATE = 0.01
"""At which share of false alarms the share of caught fakes is given."""


@dataclass(frozen=True)
class Figures:
    """How good a detector is on some images. Every share is in 0..1.

    Undecided is wrong for `accuracy`, and has no score for `roc_auc`. `true_positive_rate` is the share of fakes that
    are caught at a threshold above which at most FALSE_POSITIVE_RATE of the real images are; None if the images are too
    few to tell. `accuracy_interval` and `rate_interval` are Wilson's 95 % intervals.
    """

    images: int
    fakes: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    roc_auc: float | None
    true_positive_rate: float | None
    rate_interval: tuple[float, float] | None
    undecided: float


def figures_of(predictions: Sequence[Prediction]) -> Figures:
    """Returns the figures over these predictions, at least one."""
    columns = Columns.of(predictions)
    found = values(columns)
    is_fake = columns.label == 0
    low, high = wilson(int((columns.label == columns.verdict).sum()), len(predictions))
    caught = _caught(columns, is_fake)
    fakes = int(is_fake.sum())
    return Figures(
        images=len(predictions),
        fakes=fakes,
        accuracy=found["accuracy"],
        accuracy_interval=(low, high),
        roc_auc=None if math.isnan(found["roc_auc"]) else found["roc_auc"],
        true_positive_rate=None if caught is None else caught / fakes,
        rate_interval=None if caught is None else (wilson(caught, fakes)[0], wilson(caught, fakes)[1]),
        undecided=found["undecided"],
    )


def _caught(columns: Columns, is_fake: np.ndarray) -> int | None:
    """Returns how many fakes have a higher score than all real images but the allowed share. A missing score is not
    above any threshold.
    """
    real = np.sort(np.nan_to_num(columns.score[~is_fake], nan=-1.0))[::-1]
    allowed = math.floor(FALSE_POSITIVE_RATE * len(real) + 1e-9)
    if not allowed or not is_fake.any():
        return None
    return int((np.nan_to_num(columns.score[is_fake], nan=-1.0) > real[allowed]).sum())
