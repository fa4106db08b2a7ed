"""The figures that `nightly` reads from Postgres for Prometheus."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from producers import scans
from producers.nightly.overdue import overdue
from producers.nightly.schedule import NightlyScan
from producers.serving import metrics_served
from worker.database import Database, transaction
from worker.database.figures import drift_alarms, queues, review_backlog
from worker.messages import LIVE_QUEUE, SCAN_QUEUE

DAILY = NightlyScan.model_validate({"crontab": "0 2 * * *", "source": "s3://photos/"})
LISTING = scans.Listing(sources=("s3://photos/",))


def change(database: Database, statement: str, **values: object) -> None:
    with transaction(database) as session:
        session.execute(text(statement), values)


def test_waiting_images_are_counted_by_queue(database: Database) -> None:
    assert queues(database) == {}
    assert (review_backlog(database), drift_alarms(database)) == (0, 0)
    scans.start_scan(database, LISTING)
    change(database, "UPDATE scans SET listed = 50, judged = 8, created_at = now() - interval '2 hours'")
    assert list(queues(database)) == [SCAN_QUEUE]
    images, oldest_s, still_s = queues(database)[SCAN_QUEUE]
    assert (images, round(oldest_s / 3600), round(still_s / 3600)) == (42, 2, 2)
    change(database, "UPDATE scans SET dropped_at = now()")
    assert queues(database) == {}, "a dropped scan does not wait"


def test_all_figures_are_served_even_if_nothing_waits(database: Database) -> None:
    scans.start_scan(database, LISTING)
    change(database, "UPDATE scans SET listed = 50")
    registry = CollectorRegistry()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"fakesweep_{name}", labels)

    with metrics_served(0, "SETTING", database, registry, overdue=lambda: {"photos": 70.0}):
        assert value("queue_images", queue=SCAN_QUEUE) == 50
        assert value("queue_images", queue=LIVE_QUEUE) == value("queue_still_seconds", queue=LIVE_QUEUE) == 0
        assert value("drift_alarms") == value("cascade_alarms") == value("review_backlog") == 0
        assert value("schedule_overdue_seconds", schedule="photos") == 70


@pytest.mark.parametrize(
    ("now", "late_s"), [("01:00", 0), ("02:00", 0), ("02:30", 1800), ("26:00", 86400)]
)  # fmt: skip
def test_a_schedule_is_overdue_since_the_first_time_that_it_missed(database: Database, now: str, late_s: float) -> None:
    midnight = datetime(2026, 11, 26, tzinfo=UTC)
    last = midnight - timedelta(hours=22)
    scan = scans.start_scan(database, LISTING, schedule="photos", due_at=last)
    change(database, "UPDATE scans SET status = 'paused' WHERE id = :id", id=scan.id)
    hours, minutes = map(int, now.split(":"))

    def clock() -> datetime:
        return midnight + timedelta(hours=hours, minutes=minutes)

    app: Any = Celery()
    assert overdue({"photos": DAILY, "new": DAILY}, app, database, clock) == {"photos": late_s}
