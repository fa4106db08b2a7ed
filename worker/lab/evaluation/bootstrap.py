"""Computes confidence intervals by the bootstrap: how much a metric would differ on other images of the same kind."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from worker.lab.evaluation.confidence import LEVEL
from worker.lab.evaluation.metrics import PROPORTIONS, Columns, values

RESAMPLES = 1000
SEED = 0
METHOD = "percentile bootstrap over images, not stratified"


def intervals(columns: Columns, *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Any]:
    """Returns the percentile interval (Efron & Tibshirani 1993, ch. 13), as [low, high], of metrics that are not
    proportions.

    Images are drawn with replacement, not stratified, so the share of fakes varies as it does in practice. Resamples in
    which a metric is not defined are left out of its interval. If all resamples agree, for example because no error was
    seen, there is no interval: the metric has null, and `skipped` says why. If `resamples` is 0, there are no
    intervals.
    """
    chance = np.random.default_rng(seed)
    n = len(columns.label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns about resamples that lack a class
        drawn = [values(columns.take(chance.integers(n, size=n))) for _ in range(resamples)]
    measured = {name: value for name, value in values(columns).items() if not math.isnan(value)}
    found = {name: _percentiles([one[name] for one in drawn]) for name in measured if name not in PROPORTIONS}
    return {
        "resamples": resamples,
        "seed": seed,
        "methods": {name: METHOD for name, interval in found.items() if interval},
        "skipped": {name: _why(name, measured[name], resamples) for name, interval in found.items() if not interval},
        **found,
    }


def _percentiles(drawn: Sequence[float]) -> list[float] | None:
    known = [value for value in drawn if not math.isnan(value)]
    if not known:
        return None
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(known, [tail, 100 - tail]).tolist()
    return None if math.isclose(low, high, abs_tol=1e-9) else [low, high]


def _why(metric: str, value: float, resamples: int) -> str:
    if not resamples:
        return "no interval"
    best = 0 if metric == "equal_error_rate" else 1
    return f"no {'error' if math.isclose(value, best, abs_tol=1e-9) else 'difference'} seen: no interval"
