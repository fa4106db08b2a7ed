"""Does the drift alarm keep its false-alarm rate, and how soon does it notice a generator that the detector misses?

    python -m benchmarks.drift [--weeks 1000] [--changes 60]

Queries the view `drift` itself, on simulated hourly counts (benchmarks/quiet_weeks.py). Every day of the quiet weeks is
checked. Then 5 % of the images in one bucket come from a new generator.
"""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from benchmarks.quiet_weeks import BUCKETS, FAKE_FROM, REAL_TO, Bucket, Change, World, hourly_counts
from benchmarks.scratch import scratch_database, write_result
from worker.database.detectors import register_detector
from worker.testing import scripted_description

PROMISED = 0.01
"""The largest allowed share of quiet days with a false alarm."""
LOOKS = 91
"""How many days the view covers."""
CHANGED = 28
"""How many days ago the new generator came. The view still covers full weeks before it, and four weeks after it."""

_COPY = """COPY findings_hourly
(hour, scan_id, bucket, detector_id, outcome, verdict, reason, score_bin, shard, findings) FROM STDIN"""
_ALARMS = "SELECT extract(day FROM now() - day)::int AS ago, bucket FROM drift WHERE alarm"

Connection = psycopg.Connection[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=60)
    options = parser.parse_args()
    random = np.random.default_rng(1)
    with scratch_database() as (url, database), psycopg.connect(url, autocommit=True) as connection:
        register_detector(database, scripted_description().row())
        figures = {
            "promised_share_of_days": PROMISED,
            "buckets": len(BUCKETS),
            "quiet": quiet(connection, World(random), options.weeks),
            "quiet_with_outliers": quiet(connection, World(random, tails=3), options.weeks // 2),
            "quiet_with_memory": quiet(connection, World(random, memory=0.5), options.weeks // 2),
            "five_percent_replaced": {
                bucket.name: replaced(connection, random, bucket, options.changes) for bucket in BUCKETS
            },
            "many_buckets": many_buckets(connection),
        }
    write_result("drift", figures)


def quiet(connection: Connection, world: World, weeks: int) -> dict[str, Any]:
    """Counts days with an alarm in any bucket while nothing changes, and runs of such days."""
    days: list[bool] = []
    times: list[float] = []
    while len(days) < weeks * 7:
        load(connection, hourly_counts(world))
        began = time.perf_counter()
        alarms = {ago for ago, _ in connection.execute(_ALARMS)}
        times.append(time.perf_counter() - began)
        days += [ago in alarms for ago in range(LOOKS, 0, -1)]
    days = days[: weeks * 7]
    runs = sum(alarm and not before for before, alarm in zip([False, *days], days, strict=False))
    return {
        "weeks": weeks,
        "days": len(days),
        "days_with_a_false_alarm": sum(days),
        "share_of_days": round(sum(days) / len(days), 5),
        "weeks_with_a_false_alarm_when_looked_at_once_a_week": sum(days[::7]),
        "runs_of_such_days": runs,
        "runs_a_year": round(runs / weeks * 52, 2),
        "view_takes_s": round(statistics.median(times), 2),
    }


def replaced(connection: Connection, random: np.random.Generator, bucket: Bucket, changes: int) -> dict[str, Any]:
    """From one day on, 5 % of a bucket's images come from a new generator. Counts the images until the first alarm."""
    images: list[int] = []
    days: list[int] = []
    for _ in range(changes):
        counts = hourly_counts(World(random), Change(bucket.name, CHANGED))
        load(connection, counts)
        alarms = [ago for ago, name in connection.execute(_ALARMS) if name == bucket.name and ago <= CHANGED]
        if alarms:
            days.append(CHANGED - max(alarms) + 1)
            images.append(int(counts[bucket.name][-CHANGED:][: days[-1]].sum()))
    return {
        "images_a_week": bucket.images,
        "changes": changes,
        "noticed": len(days),
        "noticed_within_a_week": sum(day <= 7 for day in days),
        "images_until_noticed": spread(images),
        "days_until_noticed": spread(days),
    }


def many_buckets(connection: Connection, buckets: int = 40) -> dict[str, Any]:
    """Measures how long the view takes for this many buckets with images at all hours, in each of 12 score bins."""
    connection.execute("TRUNCATE findings_hourly")
    connection.execute(
        "INSERT INTO findings_hourly SELECT date_trunc('hour', now()) - hour * interval '1 hour', gen_random_uuid(),"
        " 'bucket ' || bucket, 1, 'judged', 'real', '', score_bin, 0, 10 FROM generate_series(1, 26 * 168) hour,"
        f" generate_series(1, {buckets}) bucket, generate_series(0, 11) score_bin".encode()
    )
    connection.execute("ANALYZE findings_hourly")
    row = connection.execute("SELECT count(*) FROM findings_hourly").fetchone() or (0,)
    began = time.perf_counter()
    connection.execute("SELECT count(*) FROM drift").fetchone()
    return {"buckets": buckets, "hourly_counts": row[0], "view_takes_s": round(time.perf_counter() - began, 1)}


def spread(values: Sequence[int]) -> dict[str, int] | None:
    """Returns the median, and the value that nine tenths do not exceed."""
    if not values:
        return None
    return {"median": round(statistics.median(values)), "of_nine_in_ten": round(float(np.quantile(values, 0.9)))}


def load(connection: Connection, counts: Mapping[str, NDArray[np.int64]]) -> None:
    """Replaces the hourly counts. The last day is yesterday."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    hours_of = {bucket.name: bucket.hours for bucket in BUCKETS}
    connection.execute("TRUNCATE findings_hourly")
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for name, array in counts.items():
            for day, hour, score_bin in np.argwhere(array):
                at = today - timedelta(days=int(len(array) - day), hours=-hours_of[name][hour])
                row = (str(at), "0" * 32, name, 1, "judged", verdict_of(score_bin), "", score_bin, 0)
                copy.write("\t".join(map(str, (*row, array[day, hour, score_bin]))) + "\n")
    connection.execute("ANALYZE findings_hourly")


def verdict_of(score_bin: int) -> str:
    """Returns the verdict at the usual thresholds."""
    if score_bin >= FAKE_FROM:
        return "fake"
    return "real" if score_bin < REAL_TO else "uncertain"


if __name__ == "__main__":
    main()
