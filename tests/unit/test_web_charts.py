"""The geometry of the overview's charts, and how its pages write numbers."""

from datetime import UTC, date, datetime

import pytest

from producers.web.overview import charts, texts

LAST = date(2026, 11, 27)


def test_the_parts_of_a_days_bar_add_up_to_its_count() -> None:
    drawn = charts.days({(LAST, "a"): 30, (LAST, "b"): 10, (date(2026, 11, 26), "b"): 50}, LAST, 4)
    assert (drawn.names, drawn.top) == (["b", "a"], 50)
    assert [day.day for day, _ in drawn.table] == [24, 25, 26, 27]
    assert [numbers for _, numbers in drawn.table] == [[0, 0], [0, 0], [50, 0], [10, 30]]
    yesterday, low, high = drawn.rectangles
    assert (yesterday.y, yesterday.height, yesterday.series) == (0, 100, 0)
    assert (low.y, low.height, low.series) == (80, 20, 0)
    assert (high.y, high.height, high.series) == (20, 60, 1)
    assert low.x == high.x > yesterday.x + yesterday.width


def test_more_detectors_than_colours_are_summed() -> None:
    drawn = charts.days({(LAST, f"d{n}"): 10 - n for n in range(8)}, LAST, 1)
    assert drawn.names == ["d0", "d1", "d2", "d3", "d4", charts.OTHERS]
    assert drawn.table == [(LAST, [10, 9, 8, 7, 6, 5 + 4 + 3])]
    assert max(one.series for one in drawn.rectangles) == charts.MOST_SERIES - 1


def test_without_flagged_images_nothing_is_drawn() -> None:
    drawn = charts.days({}, LAST, 30)
    assert (drawn.names, drawn.rectangles, drawn.top, len(drawn.table)) == ([], [], 1, 30)


@pytest.mark.parametrize(
    ("number", "top"), [(1, 1), (7, 7), (11, 12), (50, 50), (51, 60), (99, 100), (101, 120), (1001, 1200)]
)
def test_the_top_of_an_axis_is_a_round_number(number: int, top: int) -> None:
    assert charts.days({(LAST, "a"): number}, LAST, 1).top == top


def test_parts_of_a_bar_follow_each_other() -> None:
    first, second = charts.parts([1, 0, 3], 8)
    assert (first.x, first.width, first.series) == (0, 12.5, 0)
    assert (second.x, second.width, second.series) == (12.5, 37.5, 2)
    assert charts.parts([0, 0], 0) == []


def test_an_interval_lies_within_its_box() -> None:
    assert charts.interval(0.1, 0.2, 0.4, top=0.4) == charts.Interval(25, 50, 100)
    assert charts.interval(-1, 0.5, 2) == charts.Interval(0, 50, 100)


def test_shares_near_0_and_100_percent_are_not_rounded_to_them() -> None:
    shares = [None, 0, 0.00001, 0.5, 0.99999, 1]
    assert [texts.percent(one) for one in shares] == ["–", "0.0 %", "under 0.1 %", "50.0 %", "over 99.9 %", "100.0 %"]


def test_durations_have_two_units() -> None:
    spans = [None, 0, 59.4, 60, 3599, 3600, 90061]
    assert [texts.duration(one) for one in spans] == ["–", "0 s", "59 s", "1 min", "59 min", "1 h 0 min", "1 d 1 h"]


def test_numbers_and_hours() -> None:
    assert (texts.whole(1234567), texts.whole(None), texts.rate(12.34)) == ("1,234,567", "–", "12.3")
    assert texts.hour(datetime(2026, 11, 27, 3, tzinfo=UTC)) == "2026-11-27, in the hour from 03:00 UTC"


def test_a_note_does_not_repeat_its_status() -> None:
    notes = [texts.note("paused", text) for text in ("paused by owl", "over a limit", "pausedly", None)]
    assert notes == [" by owl", ": over a limit", ": pausedly", ""]
