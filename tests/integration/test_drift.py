"""The rule of docs/drift.md, in the views that follow it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row
from scipy import stats

from worker.database import Database
from worker.database.detectors import register_detector
from worker.database.figures import drift_alarms
from worker.testing import scripted_description

QUIET = (480, 520, 500, 510, 490, 505, 495, 515, 485, 500, 512, 488)
"""Flagged images per 10,000 in each of the twelve weeks before, the newest week first."""

Connection = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def detector(database: Database) -> int:
    return register_detector(database, scripted_description().row())


@pytest.fixture
def connection(database_url: str, detector: int) -> Iterator[Connection]:
    with psycopg.connect(database_url, row_factory=dict_row, autocommit=True) as opened:
        yield opened


def judge(
    connection: Connection, ago: int, images: int, flagged: int, *, bucket: str = "b", outcome: str = "judged"
) -> None:
    """Adds images to the counts of the day that was `ago` days ago. Flagged ones have the score 0.9, others 0.1."""
    for verdict, score_bin, findings in (("fake", 18, flagged), ("real", 2, images - flagged)):
        connection.execute(
            "INSERT INTO findings_hourly SELECT date_trunc('day', now(), 'UTC') - %s * interval '24 hours'"
            " + interval '23 hours', %s, %s, id, %s, %s, '', %s, 0, %s FROM detectors",
            [ago, UUID(int=1), bucket, outcome, verdict, score_bin, findings],
        )


def weeks(connection: Connection, now: int, before: Sequence[int] = QUIET, *, bucket: str = "b") -> None:
    """10,000 images in each week, judged on its last day."""
    for week, flagged in enumerate((now, *before)):
        judge(connection, 1 + 7 * week, 10_000, flagged, bucket=bucket)


def yesterday(connection: Connection, bucket: str = "b") -> dict[str, Any]:
    query = "SELECT * FROM drift WHERE day = date_trunc('day', now(), 'UTC') - interval '24 hours' AND bucket = %s"
    (row,) = connection.execute(query, [bucket])
    return row


def share(connection: Connection, measure: str) -> dict[str, Any]:
    query = "SELECT * FROM drift_shares WHERE measure = %s ORDER BY day DESC LIMIT 1"
    (row,) = connection.execute(query, [measure])
    return row


def test_a_usual_week_raises_no_alarm(connection: Connection, database: Database) -> None:
    weeks(connection, 505)
    row = yesterday(connection)
    assert (row["alarm"], row["images"], row["weeks_before"]) == (False, 10_000, 12)
    assert row["share_flagged"] == pytest.approx(0.0505)
    assert row["share_flagged_before"] == pytest.approx(0.05)
    assert drift_alarms(database) == 0


@pytest.mark.parametrize("flagged", [400, 610])
def test_an_unusual_week_raises_an_alarm_with_its_share(
    connection: Connection, database: Database, flagged: int
) -> None:
    weeks(connection, flagged)
    row = yesterday(connection)
    assert row["alarm"]
    assert row["measure"] in {"flagged", "score 0 to 0.2", "score 0.8 to 1"}
    assert share(connection, "flagged")["z"] * (flagged - 500) > 0
    assert drift_alarms(database) == 1


def test_after_weeks_that_go_up_and_down_the_same_week_raises_no_alarm(connection: Connection) -> None:
    weeks(connection, 610, (350, 650, 500, 420, 580, 600, 400, 500, 620, 380, 450, 550))
    assert not yesterday(connection)["alarm"]


@pytest.mark.parametrize("before", [4, 8, 12])
@pytest.mark.parametrize("flagged", [500, 530, 560, 620])
def test_z_is_students_t_as_a_normal_deviate(connection: Connection, flagged: int, before: int) -> None:
    weeks(connection, flagged, QUIET[:before])
    new, *old = (2 * math.asin(math.sqrt((count + 0.375) / 10_000.75)) for count in (flagged, *QUIET[:before]))
    deviation = max(stats.tvar(old), 1 / 10_000) ** 0.5
    t = (new - sum(old) / before) / (deviation * (1 + 1 / before) ** 0.5)
    exact = stats.norm.isf(stats.t.sf(abs(t), before - 1))
    assert abs(share(connection, "flagged")["z"]) == pytest.approx(exact, rel=0.03, abs=0.01)


def test_the_chance_is_that_of_the_normal_distribution_or_a_little_more(connection: Connection) -> None:
    for n, flagged in enumerate((510, 530, 550, 570, 590)):
        weeks(connection, flagged, bucket=f"b{n}")
    compared = 5 * 7
    for n in range(5):
        row = yesterday(connection, f"b{n}")
        exact = min(2 * stats.norm.sf(abs(row["z"])) * compared, 1)
        assert exact <= row["false_alarm_chance"] <= 1.05 * exact
        assert row["alarm"] == (row["false_alarm_chance"] <= 0.01)


def test_more_comparisons_need_a_larger_difference_for_an_alarm(connection: Connection) -> None:
    weeks(connection, 570)
    alone = yesterday(connection)["false_alarm_chance"]
    for n in range(3):
        weeks(connection, 500, bucket=f"other {n}")
    assert yesterday(connection)["false_alarm_chance"] == pytest.approx(4 * alone)


def test_too_few_images_or_weeks_are_not_compared(connection: Connection) -> None:
    weeks(connection, 900, QUIET[:3])
    row = yesterday(connection)
    assert (row["weeks_before"], row["z"], row["alarm"]) == (3, None, False)
    judge(connection, 1, 999, 900, bucket="small")
    for week in range(1, 6):
        judge(connection, 1 + 7 * week, 999, 10, bucket="small")
    assert connection.execute("SELECT FROM drift WHERE bucket = 'small'").fetchall() == []


def test_images_that_are_reused_failed_or_from_today_do_not_count(connection: Connection) -> None:
    weeks(connection, 500)
    judge(connection, 2, 5000, 5000, outcome="reused")
    judge(connection, 3, 5000, 5000, outcome="failed")
    judge(connection, 0, 5000, 5000)
    row = yesterday(connection)
    assert (row["images"], row["alarm"]) == (10_000, False)


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Pacific/Auckland"])
def test_weeks_are_in_utc_whatever_the_time_zone_of_the_session(connection: Connection, zone: str) -> None:
    weeks(connection, 610)
    connection.execute("SELECT set_config('TimeZone', %s, false)", [zone])
    assert yesterday(connection)["weeks_before"] == 12
    ((count,),) = [row.values() for row in connection.execute("SELECT count(DISTINCT day) FROM drift")]
    assert count == 85, "there is a row for each day since the oldest image"


@contextmanager
def without_triggers(connection: Connection) -> Iterator[None]:
    """Turns off the triggers, which would refuse reviews of made-up findings."""
    connection.execute("SET session_replication_role = replica")
    yield
    connection.execute("SET session_replication_role = origin")


def test_a_rise_in_overturned_verdicts_raises_an_alarm(connection: Connection, detector: int) -> None:
    with without_triggers(connection):
        for week, overturned in enumerate((30, 5, 6, 4, 5, 5)):
            for number in range(60):
                statement = "real" if number < overturned else "fake"
                connection.execute(
                    "INSERT INTO reviews (scan_id, uri, sha256, detector_id, verdict, decision, statement, kind,"
                    " reviewer, created_at) VALUES (%s, 's3://b/x', %s, %s, 'fake', 'confirmed', %s, %s, 'anna',"
                    " date_trunc('day', now(), 'UTC') - %s * interval '24 hours')",
                    [UUID(int=1), f"{week}-{number}", detector, statement, "first", 1 + 7 * week],
                )
        connection.execute(
            "INSERT INTO reviews (scan_id, uri, sha256, detector_id, verdict, decision, statement, kind, reviewer)"
            " VALUES (%s, 's3://b/x', 'x', %s, 'fake', 'overturned', 'real', 'second', 'anna')", [UUID(int=1), detector]
        )  # fmt: skip
    row = yesterday(connection)
    assert (row["measure"], row["images"], row["alarm"]) == ("overturned", None, True)
    assert (row["share"], row["share_before"]) == (0.5, pytest.approx(5 / 60))
