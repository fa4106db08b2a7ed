"""Finds the score from which an image is called fake, for an acceptable false-positive rate."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from worker.detector.description import Thresholds
from worker.errors import ConfigurationError
from worker.lab.evaluation.confidence import LEVEL
from worker.lab.evaluation.evaluated import Floats, Truths

EVEN = 0.5
"""Below this P(fake), an image is more probably real. So no image below it is ever called fake, and none above it is
called real, even if the set is easy.
"""
_UNDECIDED = -2.0
"""Below all scores and all negative scores, so that an image without a score is called neither fake nor real."""


@dataclass(frozen=True)
class Share:
    """`count` of `images`, with the exact interval of 95 % confidence (Clopper and Pearson 1934)."""

    count: int
    images: int
    share: float
    low: float
    high: float


def share(chosen: Truths) -> Share:
    """Returns how many of these are true. `chosen` has the shape (images,), at least one."""
    count, images = int(chosen.sum()), len(chosen)
    interval = binomtest(count, images).proportion_ci(LEVEL, method="exact")
    return Share(count, images, count / images, float(interval.low), float(interval.high))


def upper_bound(count: int, images: int) -> float:
    """Returns the upper end of the exact one-sided 95 % interval of `count` / `images` (Clopper and Pearson 1934)."""
    return float(binomtest(count, images, alternative="less").proportion_ci(LEVEL, method="exact").high)


def images_needed(rate: float) -> int:
    """Returns how many images of a class must all be judged rightly to show an error rate of `rate` at 95 % confidence.

    It is the smallest n with (1 - rate)^n <= 0.05, about 3 / rate: the rule of three (Hanley and Lippman-Hand 1983).
    """
    return math.ceil(math.log(1 - LEVEL) / math.log1p(-rate))


def choose_thresholds(
    scores: Floats, is_fake: Truths, before: Thresholds, *, false_positive_rate: float, miss_rate: float | None = None
) -> Thresholds:
    """Returns the lowest `fake_from` at which at most `false_positive_rate` of the real images are called fake.

    It is at least EVEN. `real_to` is the highest at which at most `miss_rate` of the fakes are called real, at most
    EVEN. Without a `miss_rate`, it stays as in `before`, but not above `fake_from`. `scores`, NaN where undecided, and
    `is_fake` have the shape (images,). Rates are shares of all images of a class, undecided ones included.
    Both classes must have images with scores. Raises ConfigurationError if no threshold keeps the rate and finds any
    image.
    """
    fake_from = max(EVEN, _lowest(scores, is_fake, false_positive_rate, "--false-positive-rate", "fake"))
    if miss_rate is None:
        return Thresholds(fake_from=fake_from, real_to=min(before.real_to, fake_from))
    # The same question from the other end: which real images can be called real, with so many fakes among them.
    real_to = -_lowest(-scores, ~is_fake, miss_rate, "--miss-rate", "real")
    return Thresholds(fake_from=fake_from, real_to=min(real_to, EVEN))


def _lowest(scores: Floats, wanted: Truths, rate: float, option: str, word: str) -> float:
    """Returns the lowest score such that at most `rate` of the images that are not `wanted` have it or a higher one."""
    known = np.nan_to_num(scores, nan=_UNDECIDED)
    wrong, right, thresholds = roc_curve(wanted, known, drop_intermediate=False)
    place = int(np.flatnonzero(wrong <= rate)[-1])
    if right[place] == 0:
        possible = math.ceil(1e4 * wrong[right > 0][0]) / 1e4
        raise ConfigurationError(
            f"{option} {rate:g}: no threshold keeps this rate and still calls any {word} image {word}; "
            f"the lowest possible rate on these images is {possible:g}; give that, or other images"
        )
    return float(thresholds[place])
