"""The geometry of our charts. The templates draw it as inline SVG: static, accessible and without styles of its own.

pygal and matplotlib were looked at. Both write style elements or style attributes into the SVG, which our content
security policy forbids, and pygal adds a script. What we need of them is a few divisions.

All charts lie in a box of 100 x 100 that the page stretches to its width. So they hold shapes only; the numbers and the
names beside them are text of the page, which stays as large as the reader wants it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

BOX = 100.0
MOST_SERIES = 6
"""As many colours as people with colour blindness can tell apart."""
OTHERS = "all others"
_GAP = 0.25
"""The gap between two bars, as a share of a day's width."""
_ROUND = (10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)


@dataclass(frozen=True)
class Rectangle:
    """A part of a bar. `series` is the number of its colour, from 0."""

    x: float
    y: float
    width: float
    height: float
    series: int


@dataclass(frozen=True)
class Days:
    """A bar for each day, with a part for each of `names`. `top` is the number at the upper edge of the box.

    `table` has the same as numbers: for each day, the numbers in the order of the names.
    """

    names: Sequence[str]
    rectangles: Sequence[Rectangle]
    top: int
    table: Sequence[tuple[date, Sequence[int]]]


def days(counts: Mapping[tuple[date, str], int], last: date, length: int) -> Days:
    """Makes stacked bars of the `length` days that end with `last`. The largest series are at the bottom, and small
    ones are added up.
    """
    shown = [last - timedelta(days=length - 1 - n) for n in range(length)]
    totals: dict[str, int] = {}
    for (_, name), count in counts.items():
        totals[name] = totals.get(name, 0) + count
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    kept = ranked if len(ranked) <= MOST_SERIES else ranked[: MOST_SERIES - 1]
    rest = ranked[len(kept) :]
    groups = [[name] for name in kept] + ([rest] if rest else [])
    table = [(day, [sum(counts.get((day, name), 0) for name in group) for group in groups]) for day in shown]
    top = _round_up(max((sum(numbers) for _, numbers in table), default=0))
    rectangles = [part for place, (_, numbers) in enumerate(table) for part in _stack(place, numbers, top, length)]
    return Days([*kept, OTHERS] if rest else kept, rectangles, top, table)


def _stack(place: int, numbers: Sequence[int], top: int, length: int) -> list[Rectangle]:
    wide, y, parts = BOX / length, BOX, []
    for series, number in enumerate(numbers):
        if number:
            high = BOX * number / top
            y -= high
            parts.append(
                Rectangle(_short(wide * (place + _GAP / 2)), _short(y), _short(wide * (1 - _GAP)), _short(high), series)
            )
    return parts


def _round_up(number: int) -> int:
    """Returns the next round number, at least 1."""
    if number <= 10:  # noqa: PLR2004 - all of these are round
        return max(number, 1)
    power = 1
    while number > 100 * power:
        power *= 10
    return next(step * power for step in _ROUND if step * power >= number)


def parts(numbers: Sequence[int], whole: int) -> list[Rectangle]:
    """Makes one bar from left to right: each number's share of `whole`, in a box of 100 x 100."""
    x, found = 0.0, []
    for series, number in enumerate(numbers):
        wide = BOX * number / whole if whole else 0.0
        if wide:
            found.append(Rectangle(_short(x), 0, _short(wide), BOX, series))
        x += wide
    return found


def bar_of(scan: Mapping[str, Any]) -> Sequence[Rectangle]:
    """Makes the bar of a scan's progress: fake, uncertain, failed, and real or unchanged images, as shares of the
    listed ones.

    `scan` is a row of the view `scan_progress`.
    """
    calm = scan["judged"] + scan["reused"] + scan["unchanged"] - scan["fake"] - scan["uncertain"]
    return parts([scan["fake"], scan["uncertain"], scan["failed"], max(calm, 0)], max(scan["listed"], 1))


@dataclass(frozen=True)
class Interval:
    """A rate and its interval, as positions from left (0) to right (100)."""

    low: float
    at: float
    high: float


def interval(low: float, at: float, high: float, *, top: float = 1.0) -> Interval:
    """Returns the positions of shares between 0 and `top`."""
    return Interval(*(_short(BOX * min(max(share / top, 0.0), 1.0)) for share in (low, at, high)))


def _short(number: float) -> float:
    return round(number, 3)
