"""How far scores are from the truth: expected calibration error, Brier score, log loss."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import brier_score_loss, log_loss

from worker.lab.evaluation.evaluated import Floats, Truths

BINS = 15
"""Equal bins of P(fake), as in Guo et al. 2017."""


@dataclass(frozen=True)
class Bin:
    """The images whose score is in one part of 0..1: their mean score, and the share of fakes among them."""

    images: int
    score: float
    share_fake: float


@dataclass(frozen=True)
class Reliability:
    """Compares scores with labels. `bins` are those with images, from 0 to 1. `images` counts images with a score.

    `brier_score` is the mean squared distance of score and label (Brier 1950). `log_loss` is the mean negative log
    likelihood, in nats.
    """

    images: int
    expected_calibration_error: float
    brier_score: float
    log_loss: float
    bins: tuple[Bin, ...]


def reliability(scores: Floats, is_fake: Truths) -> Reliability:
    """Returns the reliability of scores in 0..1 with labels, both of the shape (images,), at least one."""
    return Reliability(
        len(scores),
        expected_calibration_error(scores, is_fake),
        float(brier_score_loss(is_fake, scores, labels=[False, True], pos_label=True)),
        float(log_loss(is_fake, scores, labels=[False, True])),
        bins_of(scores, is_fake),
    )


def expected_calibration_error(scores: Floats, is_fake: Truths) -> float:
    """Returns the mean distance of mean score and share of fakes over equal bins, weighted by the images in each.

    `scores` and `is_fake` have the shape (images,). Naeini et al. 2015.
    """
    distances = (one.images * abs(one.score - one.share_fake) for one in bins_of(scores, is_fake))
    return float(sum(distances) / len(scores))


def bins_of(scores: Floats, is_fake: Truths) -> tuple[Bin, ...]:
    """Returns the bins with images. A bin includes its lower bound; the last one also includes 1."""
    own = np.minimum((scores * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(int((own == one).sum()), float(scores[own == one].mean()), float(is_fake[own == one].mean()))
        for one in np.unique(own)
    )
