"""Statistics of two detectors on the same images. scipy has the test; the rest is short."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, norm

from worker.lab.evaluation.confidence import LEVEL


def mcnemar(only_a: int, only_b: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test (1947) that both are equally often right.

    It is the sign test on the discordant images (Fagerland, Lydersen and Laake 2013, section 2), or 1 if there are
    none.
    """
    discordant = only_a + only_b
    return float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0


def difference_interval(only_a: int, only_b: int, images: int) -> tuple[float, float]:
    """Returns the 95 % interval of the difference of two accuracies on the same images.

    It is "Wald+2" of Agresti and Min 2005: half an image is added to each cell of the table. Unlike a bootstrap over
    the images, the interval has a width even if the two never differ: no difference in 20 images does not show that
    there is none.
    """
    a, b, n = only_a + 0.5, only_b + 0.5, images + 2
    half = norm.ppf((1 + LEVEL) / 2) * np.sqrt(a + b - (a - b) ** 2 / n) / n
    middle = (a - b) / n
    return float(max(middle - half, -1)), float(min(middle + half, 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values in their order, corrected for their number (Holm 1979: step-down, monotone, at most 1)."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(p) for p in corrected]
