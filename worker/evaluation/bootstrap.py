"""Confidence intervals by the bootstrap: how much a metric would differ on other images of the same kind."""

import warnings
from typing import Any

import numpy as np

from worker.evaluation.metrics import LEVEL, Columns, values

RESAMPLES = 1000
SEED = 0


def intervals(columns: Columns, *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Any]:
    """The percentile interval (Efron & Tibshirani 1993, ch. 13) of every metric of values(), as [low, high].

    Images are drawn with replacement, not stratified: the share of fakes varies as it does in the world. Resamples in
    which a metric is not defined are left out of its interval; it has none when it is defined in none. Without a single
    error among the images an interval has no width: then look at Wilson's, which metrics.describe() gives.
    `resamples` of 0 give no intervals.
    """
    chance = np.random.default_rng(seed)
    n = len(columns.label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of resamples that lack a class
        drawn = [values(columns.take(chance.integers(n, size=n))) for _ in range(resamples)]
    found = {name: [one[name] for one in drawn if not np.isnan(one[name])] for name in values(columns)}
    tail = 100 * (1 - LEVEL) / 2
    return {
        "level": LEVEL,
        "method": "percentile bootstrap over images, not stratified",
        "resamples": resamples,
        "seed": seed,
        **{name: np.percentile(some, [tail, 100 - tail]).tolist() for name, some in found.items() if some},
    }
