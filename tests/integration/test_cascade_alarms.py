"""The alarm about audited images: when it is raised, how soon, how rarely falsely, and who is told."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import psycopg
import pytest
from psycopg.rows import dict_row
from scipy import stats

from benchmarks.cascade_audit import PROMISED, evidence, images_until_alarm, years_with_an_alarm
from producers.reporting import results, standing
from producers.webhooks.drift import tell_of_drift
from tests.cascades import Cascade, cascade_description
from tests.desk import desk_app, logged_in, person
from tests.integration.test_cascade_stages import parts_of, scanned
from tests.integration.test_webhooks_written import listen, written
from worker.database import Database
from worker.database.detectors import register_detector
from worker.database.figures import cascade_alarms
from worker.tables import DeskRole, WebhookKind

Connection = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url, row_factory=dict_row, autocommit=True) as opened:
        yield opened


def count(connection: Connection, detector: int, ago: int, **images: int) -> None:
    """Adds the counts of the day that was `ago` days ago: `cleared`, `audited_flagged` and so on."""
    kinds = {"cleared": ("first", False), "audited": ("audit", False), "audited_flagged": ("audit", True),
             "judged": ("judge", False), "judged_flagged": ("judge", True)}  # fmt: skip
    for name, number in images.items():
        connection.execute(
            "INSERT INTO stages_daily SELECT date_trunc('day', now(), 'UTC') - %s * interval '24 hours', %s, %s, %s,"
            " %s, 0, %s",
            [ago, UUID(int=1), detector, *kinds[name], number],
        )


def yesterday(connection: Connection) -> dict[str, Any]:
    query = "SELECT * FROM cascade_alarms WHERE day = date_trunc('day', now(), 'UTC') - interval '24 hours'"
    (row,) = connection.execute(query)
    return row


def test_the_view_estimates_the_miss_rate_of_the_last_seven_days(database: Database, connection: Connection) -> None:
    detector = register_detector(database, cascade_description().row())
    for ago, flagged in ((0, 50), (1, 1), (7, 2), (8, 50)):  # today and the eighth day do not count
        count(connection, detector, ago, cleared=500, audited=100 - flagged, audited_flagged=flagged, judged_flagged=36)
    row = yesterday(connection)
    assert (row["cleared"], row["audited"], row["audited_flagged"], row["judged_flagged"]) == (1200, 200, 3, 72)
    assert row["miss_rate"] == pytest.approx(18 / (18 + 72))
    assert (row["max_miss_rate"], row["detector_name"]) == (0.005, "two")


@pytest.mark.parametrize("judge_flags", [None, 0.001])
@pytest.mark.parametrize("share", [0.01, 1.0])
def test_the_rule_of_the_view_is_the_one_that_the_simulation_uses(
    share: float, judge_flags: float | None, database: Database, connection: Connection
) -> None:
    clear = {"judge_flags": judge_flags, "audit_share": share}
    detector = register_detector(database, cascade_description(clear=clear).row())
    count(connection, detector, 1, cleared=68_600, audited=1399, audited_flagged=1, judged=28_000, judged_flagged=2000)
    alarms = []
    for flagged in (0, 1, 2, 3, 5, 8, 13, 100, 200_000):
        connection.execute("UPDATE stages_daily SET images = %s WHERE stage = 'audit' AND flagged", [flagged])
        row = yesterday(connection)
        ours = evidence(row["audited"], flagged, 2000, share=share, judge_flags=judge_flags or 0)
        assert row["false_alarm_chance"] == pytest.approx(1 / max(ours, 1))
        assert row["alarm"] == (row["false_alarm_chance"] <= 0.05 / 365)
        alarms.append(row["alarm"])
    assert alarms == sorted(alarms)
    assert alarms[-1]
    assert not alarms[1]


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("judge_flags", [0.0, 0.01])
def test_the_mean_of_the_evidence_is_at_most_1_while_the_promise_is_kept(share: float, judge_flags: float) -> None:
    """The exact mean: how many of the fakes are cleared and how many of these audited is random, and the judge errs."""
    fakes, real, total = 300, 60, 0.0
    for missed in range(30):
        for caught in range(missed + 1):
            likely = stats.binom.pmf(missed, fakes, PROMISED) * stats.binom.pmf(caught, missed, share)
            for wrong in range(12 if judge_flags and likely > 1e-12 else 1):
                chance = likely * stats.binom.pmf(wrong, real, judge_flags)
                total += chance * evidence(
                    caught + real, caught + wrong, fakes - missed, share=share, judge_flags=judge_flags
                )
    assert 0.3 < total <= 1


def test_one_flagged_audit_is_no_alarm_even_if_nothing_else_is_flagged(
    database: Database, connection: Connection
) -> None:
    detector = register_detector(database, cascade_description(clear={"audit_share": 0.1}).row())
    count(connection, detector, 1, cleared=900, audited=99, audited_flagged=1)
    assert not yesterday(connection)["alarm"]
    count(connection, detector, 2, audited_flagged=2)
    assert yesterday(connection)["alarm"]


def test_a_cascade_without_a_promise_raises_no_alarm(database: Database, connection: Connection) -> None:
    detector = register_detector(database, cascade_description(clear={"max_miss_rate": None}).row())
    count(connection, detector, 1, cleared=100, audited=100, audited_flagged=100)
    row = yesterday(connection)
    assert (row["alarm"], row["max_miss_rate"]) == (False, None)


def test_the_alarm_has_the_figures_of_the_last_calibration(database: Database, connection: Connection) -> None:
    detector = register_detector(database, cascade_description(clear={"audit_share": 0.01}).row())
    count(connection, detector, 1, cleared=9900, audited=90, audited_flagged=10, judged_flagged=200)
    assert yesterday(connection)["alarm"]
    again = cascade_description(clear={"audit_share": 0.01, "judge_flags": 0.05, "max_miss_rate": 0.01}, notice="new")
    assert register_detector(database, again.row()) == detector
    row = yesterday(connection)
    assert (row["judge_flags"], row["max_miss_rate"], row["alarm"]) == (0.05, 0.01, False)
    (stored,) = connection.execute("SELECT notice FROM detectors")
    assert stored["notice"] == "new"


def test_an_alarm_is_counted_and_told_once(database: Database, connection: Connection) -> None:
    detector = register_detector(database, cascade_description(clear={"audit_share": 0.01}).row())
    assert cascade_alarms(database) == 0
    count(connection, detector, 1, cleared=9900, audited=90, audited_flagged=10, judged_flagged=200)
    assert cascade_alarms(database) == 1
    listen(database, WebhookKind.DRIFT_ALARM)
    assert [tell_of_drift(database) for _ in range(2)] == [1, 0]
    (alarm,) = written(database)
    data = alarm["data"]
    assert (data["measure"], data["bucket"], data["detector"]) == ("missed by the first stage", None, "two")
    assert (data["share"], data["share_before"], data["images"]) == (pytest.approx(1000 / 1200), 0.005, 100)


def test_the_overview_shows_an_alarm(database: Database, connection: Connection) -> None:
    detector = register_detector(database, cascade_description(clear={"audit_share": 0.01}).row())
    person(database, "lead", DeskRole.LEAD)
    lead = logged_in(desk_app(database), "lead")
    assert "clears more fakes than promised" not in lead.get("/overview").text
    count(connection, detector, 1, cleared=9900, audited=90, audited_flagged=10, judged_flagged=200)
    page = lead.get("/overview").text
    assert "of 100 audited images in the seven days until yesterday, the judge flagged 10" in page


def test_status_says_what_a_scans_audits_show(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    scan_id = scanned(database, parts_of(database, Cascade(clear={"audit_share": 1.0}, judge=lambda _image: 0.9)))
    found = results.summary(database, scan_id)
    (row,) = found["audits"]
    assert (row["cleared"], row["audited_flagged"], row["judged_flagged"], row["miss_rate"]) == (2, 2, 2, 0.5)
    standing.print_summary(found)
    assert "two cleared 2 of 4 images. The judge checked 2 of these" in capsys.readouterr().out
    assert uuid4() != scan_id


def test_a_year_of_nights_in_which_the_promise_is_just_kept_rarely_has_an_alarm() -> None:
    assert years_with_an_alarm(20_000, 100, seed=5) <= 5


@pytest.mark.parametrize(("judge_flags", "images"), [(0.0, 60_000), (0.0006, 100_000)])
def test_a_new_family_of_2_per_cent_is_noticed_soon(judge_flags: float, images: int) -> None:
    for per_day in (3000, 10_000):
        needed = images_until_alarm(0.02, per_day, 200, 18, judge_flags)
        assert np.median(needed) <= 35_000
        assert np.quantile(needed, 0.98) <= images
