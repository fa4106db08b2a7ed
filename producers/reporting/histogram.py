"""Computes where the bars of a report's histogram are, how high they are, and where the ticks are."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from producers.reporting.tally import BINS

PLOT_TOP_PX, PLOT_BOTTOM_PX = 44, 224


def histogram(bins: Mapping[str, list[int]]) -> dict[str, Any]:
    """Returns bars and ticks for the counts of ReportTally.bins. x is in per cent of the plot's width and y in
    pixels, so the text keeps its size on any screen.
    """
    totals = [sum(counts) for counts in zip(*bins.values(), strict=True)]
    step = _tick_step(max(totals))
    top = step * math.ceil(max(totals) / step) or step
    scale = (PLOT_BOTTOM_PX - PLOT_TOP_PX) / top
    return {
        "scored": sum(totals),
        "bars": [_bar(number, bins, scale) for number in range(BINS)],
        "ticks": [(PLOT_BOTTOM_PX - count * scale, count) for count in range(0, top + 1, step)],
        "top": PLOT_TOP_PX,
        "bottom": PLOT_BOTTOM_PX,
    }


def _bar(number: int, bins: Mapping[str, list[int]], scale: float) -> dict[str, Any]:
    counts = {verdict: counts[number] for verdict, counts in bins.items()}
    parts, y = [], float(PLOT_BOTTOM_PX)
    for verdict, count in counts.items():
        if count:
            height = max(count * scale, 2.0)  # one image among millions is still visible
            y -= height
            parts.append((verdict, y, height))
    return {"x": number * 100 / BINS, "from": number / BINS, "to": (number + 1) / BINS, "counts": counts,
            "total": sum(counts.values()), "parts": parts, "y": y}  # fmt: skip


def _tick_step(highest: int) -> int:
    """Returns the round number (1, 2 or 5 x 10^n) that divides `highest` into at most four steps."""
    steps: Iterator[int] = (digit * 10**power for power in itertools.count() for digit in (1, 2, 5))
    return next(step for step in steps if step * 4 >= highest)
