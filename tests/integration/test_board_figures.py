"""What the panels of Grafana about cascades and second opinions show, as a login that reads views."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from producers.reporting.audits import miss_rate
from tests.board_data import add_cascades, add_second_opinions
from tests.boards import sql_of, targets
from tests.integration.test_boards import POSTGRES_UID, ask
from tests.roles import Home, home, with_all_logins
from worker.lab.evaluation.confidence import wilson

ANYTHING = r".*"


class Shown(NamedTuple):
    """A database with made-up data, and the numbers of its two cascades: the one without a promise is `plain`."""

    home: Home
    broken: int
    plain: int

    def rows(self, title: str, chosen: str = ANYTHING) -> list[dict[str, Any]]:
        """The rows of the panel of this title."""
        (target,) = (one for one in targets(POSTGRES_UID) if one.panel == title)
        columns, rows = ask(self.home, sql_of(target.query, chosen))
        return [dict(zip(columns, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def shown(postgres_server_url: str, template: str) -> Iterator[Shown]:
    with home(postgres_server_url, template) as made:
        with_all_logins(made)
        cascades = add_cascades(made.url)
        add_second_opinions(made.url)
        yield Shown(made, *cascades)


def day(ago: int) -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=ago)


def test_one_cascade_has_an_alarm(shown: Shown) -> None:
    assert shown.rows("Cascade alarms") == [{"alarms": 1}]
    assert shown.rows("Cascade alarms", "plain") == [{"alarms": 0}]


def test_the_miss_rate_is_that_of_status_and_has_the_interval_of_wilson(shown: Shown) -> None:
    first, second = shown.rows("Cascades now")
    rate = miss_rate(10_000, 100, 10, 200)
    assert rate
    assert first["miss_rate"] == pytest.approx(rate.share)
    low, high = wilson(10, 100)
    assert first["low"] == pytest.approx(low * 10_000 / (low * 10_000 + 200), rel=1e-6)
    assert first["high"] == pytest.approx(high * 10_000 / (high * 10_000 + 200), rel=1e-6)
    assert (first["low"], first["high"]) == pytest.approx((rate.low, rate.high), abs=0.03)
    assert (first["alarm"], first["detector_name"], first["promised"]) == (True, "two", 0.005)
    assert first["false_alarm_chance"] <= 0.05 / 365
    assert (first["cleared"], first["audited"], first["audited_flagged"]) == (10_000, 100, 10)
    assert (first["judged"], first["judged_flagged"]) == (1000, 200)
    unknown = ("miss_rate", "low", "high", "promised", "false_alarm_chance")
    assert (second["detector_id"], second["alarm"]) == (shown.plain, False)
    assert [second[name] for name in unknown] == [None] * 5, "nothing was audited, and nothing promised"


def test_the_shares_of_the_stages_add_up(shown: Shown) -> None:
    found = {(row["time"], row["metric"]): row for row in shown.rows("Images of cascades by stage")}
    assert set(found) == {(day(20), "two"), (day(1), "two"), (day(1), "plain")}
    shares = {key: (row["first"], row["judge"], row["audit"]) for key, row in found.items()}
    assert shares[day(1), "two"] == pytest.approx((9900 / 11_000, 1000 / 11_000, 100 / 11_000))
    assert shares[day(20), "two"] == pytest.approx((900 / 2000, 1000 / 2000, 100 / 2000))
    assert shares[day(1), "plain"] == pytest.approx((0.75, 0.25, 0))


def test_the_miss_rate_over_time_has_a_row_for_each_week_in_which_it_is_known(shown: Shown) -> None:
    found = {(row["time"], row["metric"]): row for row in shown.rows("Miss rate of cascades, seven days")}
    name = f"two #{shown.broken}"
    assert set(found) == {(day(ago), name) for ago in (1, *range(14, 21))}
    quiet = found[day(20), name]
    assert (quiet["miss_rate"], quiet["low"], quiet["promised"]) == (0, pytest.approx(0, abs=1e-9), 0.005)
    assert quiet["low"] >= 0
    assert quiet["high"] == pytest.approx((high := wilson(0, 100)[1]) * 1000 / (high * 1000 + 100), rel=1e-6)
    assert found[day(1), name]["miss_rate"] == pytest.approx(1000 / 1200)


def test_the_chance_of_a_false_alarm_is_shown_for_promises(shown: Shown) -> None:
    rows = shown.rows("Chance that a cascade's alarm is false")
    assert {row["metric"] for row in rows} == {f"two #{shown.broken}"}
    found = {row["time"]: row["false_alarm_chance"] for row in rows}
    assert found[day(1)] == shown.rows("Cascades now")[0]["false_alarm_chance"]
    assert found[day(20)] == 1


def test_each_scan_that_asks_has_the_figures_of_its_second_opinions(shown: Shown) -> None:
    photos, lacking = shown.rows("Second opinions by scan")
    assert (photos.pop("scan"), lacking.pop("scan")) == ("photos 1", "lacking"), "the newest scan comes first"
    assert photos.pop("started") > lacking.pop("started")
    assert photos == {
        "further_name": "redness", "both_judged": 6, "differ": pytest.approx(2 / 6), "only_main": 1, "only_further": 1,
        "not_the_same": pytest.approx(3 / 6), "missing": 0,
    }  # fmt: skip
    assert (lacking["both_judged"], lacking["differ"], lacking["missing"]) == (0, None, 6)


def test_the_share_on_which_detectors_differ_is_a_point_of_the_schedule(shown: Shown) -> None:
    found = {row["metric"]: row["differ"] for row in shown.rows("Detectors differ, by scan")}
    assert found == {"photos: redness": pytest.approx(2 / 6), "by hand: redness": None}


def test_scans_beyond_a_million_images_are_left_out(shown: Shown) -> None:
    shown.home.sql("UPDATE scans SET real = real + 1000000 WHERE name = 'photos 1'")
    try:
        assert [row["scan"] for row in shown.rows("Second opinions by scan")] == ["photos 1"]
        assert [row["metric"] for row in shown.rows("Detectors differ, by scan")] == ["photos: redness"]
    finally:
        shown.home.sql("UPDATE scans SET real = real - 1000000 WHERE name = 'photos 1'")
