"""How fast do dashboards get their answers? Runs every query of a panel, of a view and of the desk's overview.

    python -m benchmarks.dashboards [--findings 10000000] [--contents 2000000] [--scans 30] [--reviews 100000]

The queries run as the dashboard role. Half of the contents are fake or uncertain: a million wait for a review, or have
one.
"""

import argparse
import statistics
import time

import psycopg

from benchmarks.archive_history import Size, fill
from benchmarks.scratch import SERVER, scratch_database, write_result
from producers.web.overview import figures
from tests.boards import sql_of, targets, variable_queries
from worker.database.detectors import register_detector
from worker.grants import Role
from worker.roles import Wanted, make_roles
from worker.testing import scripted_description

PREFIX = "fakesweep_benchmark"
LOGIN = f"{PREFIX}_login"
REPETITIONS = 20
WANTED_MS = 200.0
VIEWS = {
    "review_queue, first page": "SELECT * FROM review_queue LIMIT 50",
    "review_queue, its length": "SELECT count(*) FROM review_queue",
    "review_status of a content": (
        "SELECT * FROM review_status WHERE sha256 = (SELECT sha256 FROM review_status LIMIT 1)"
    ),
    "review_status, newest": "SELECT * FROM review_status ORDER BY reviewed_at DESC LIMIT 100",
    "contents_flagged, newest": "SELECT * FROM contents_flagged ORDER BY first_flagged_at DESC LIMIT 100",
    "findings_by_hour, a month": "SELECT * FROM findings_by_hour WHERE hour > now() - interval '31 days'",
    "detector_quality": "SELECT * FROM detector_quality",
    "scan_progress": "SELECT * FROM scan_progress",
    "failures": "SELECT * FROM failures",
    "queue_age": "SELECT * FROM queue_age",
    "drift": "SELECT * FROM drift",
    "drift_shares": "SELECT * FROM drift_shares",
    "flagged_by_day": "SELECT * FROM flagged_by_day",
    "review_backlog": "SELECT * FROM review_backlog",
    "flagged_findings, newest": "SELECT * FROM flagged_findings ORDER BY decided_at DESC LIMIT 100",
    "finding_details of a uri": "SELECT * FROM finding_details WHERE uri = 's3://bucket-0/0000001000'",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--findings", type=int, default=10_000_000)
    parser.add_argument("--contents", type=int, default=2_000_000)
    parser.add_argument("--scans", type=int, default=30)
    parser.add_argument("--reviews", type=int, default=100_000)
    options = parser.parse_args()
    with scratch_database() as (url, database):
        detector_id = register_detector(database, scripted_description().row())
        filled = fill(url, detector_id, Size(**vars(options)))
        with psycopg.connect(SERVER, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {LOGIN} LOGIN".encode())
        for _ in make_roles(database, Wanted(PREFIX, [(Role.DASHBOARD, LOGIN)])):
            pass
        asked = {str(one): sql_of(one.query) for one in targets("fakesweep-postgres")}
        asked |= {name: sql_of(query) for name, query in variable_queries().items()}
        asked |= {f"overview: {name}": query for name, query in figures.QUERIES.items()}
        with psycopg.connect(url, user=LOGIN, autocommit=True) as connection:
            measured = {name: _p95_ms(connection, query) for name, query in (VIEWS | asked).items()}
    _drop_roles()
    slow = {name: ms for name, ms in measured.items() if ms > WANTED_MS}
    write_result("dashboards", vars(options) | filled | {"p95_ms": measured, "slower_than_200_ms": slow})


def _drop_roles() -> None:
    with psycopg.connect(SERVER, autocommit=True) as connection:
        for name in (LOGIN, *(f"{PREFIX}_{role}" for role in Role)):
            connection.execute(f"DROP ROLE IF EXISTS {name}".encode())


def _p95_ms(connection: psycopg.Connection[tuple[object, ...]], query: str) -> float:
    times = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        connection.execute(query.encode()).fetchall()
        times.append((time.perf_counter() - started) * 1000)
    return round(statistics.quantiles(times, n=20)[-1], 1)


if __name__ == "__main__":
    main()
