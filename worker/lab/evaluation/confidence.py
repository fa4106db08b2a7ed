"""The confidence level of evaluations, calibrations and comparisons, and the interval of a plain proportion."""

from scipy.stats import binomtest

LEVEL = 0.95
WILSON = "Wilson score interval (Wilson 1927)"


def wilson(count: int, of: int) -> list[float]:
    """Returns [low, high] of `count` / `of`, with `of` at least 1. It has a width also for shares of 0 and 1."""
    interval = binomtest(count, of).proportion_ci(LEVEL, method="wilson")
    return [float(interval.low), float(interval.high)]
