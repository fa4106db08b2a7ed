"""The one level of confidence of evaluations, calibrations and comparisons, and the interval of a plain proportion."""

from scipy.stats import binomtest

LEVEL = 0.95
WILSON = "Wilson score interval (Wilson 1927)"


def wilson(count: int, of: int) -> list[float]:
    """[low, high] of `count` / `of`, with `of` at least 1. It has a width where the share is 0 or 1, too."""
    interval = binomtest(count, of).proportion_ci(LEVEL, method="wilson")
    return [float(interval.low), float(interval.high)]
