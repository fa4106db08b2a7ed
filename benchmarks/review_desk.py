"""How fast does a reviewer get the next image? Deciding, claiming the next, and all that its page shows, together.

    python -m benchmarks.review_desk [--findings 10000000] [--contents 2200000] [--scans 30] [--reviews 100000]

Half of the contents are fake or uncertain: a million wait for a person.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from uuid import UUID

import psycopg
from sqlalchemy import text

from benchmarks.archive_history import Size, fill
from benchmarks.scratch import scratch_database, write_result
from producers.web.access.people import Person
from producers.web.desk import claims, deciding, queue
from producers.web.desk.deciding import Decision, SecondShare, Shown
from producers.web.desk.item import item
from producers.web.desk.queue import Filters
from producers.web.desk.reasons import read_reasons
from producers.web.desk.undo import undo_last
from worker.database import Database, connect
from worker.database.detectors import register_detector
from worker.tables import DeskRole, Statement, Verdict
from worker.testing import scripted_description

REPETITIONS = 200
WANTED_MS = 100.0
CHANCE = SecondShare(b"s" * 32, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--findings", type=int, default=10_000_000)
    parser.add_argument("--contents", type=int, default=2_200_000)
    parser.add_argument("--scans", type=int, default=30)
    parser.add_argument("--reviews", type=int, default=100_000)
    parser.add_argument("--loaded", help="the URL of a database that is filled already; it stays")
    options = vars(parser.parse_args())
    loaded = options.pop("loaded")
    with nullcontext((loaded, connect(loaded))) if loaded else scratch_database() as (url, database):
        if not loaded:
            fill(url, register_detector(database, scripted_description().row()), Size(**options))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_NAME)
            connection.execute("ANALYZE contents, content_external_ids")
        figures = measured(database)
    slow = {name: one for name, one in figures.items() if one["p95"] > WANTED_MS}
    write_result("review_desk", options | {"ms": figures, "slower_than_100_ms": slow})


_NAME = """
INSERT INTO content_external_ids
SELECT 'case ' || row_number() OVER () / 1000, sha256 FROM contents ON CONFLICT DO NOTHING
"""


def measured(database: Database) -> dict[str, dict[str, float]]:
    """Milliseconds of each question, with each filter."""
    waits = queue.waiting(database, Person("r0", DeskRole.REVIEWER), Filters(), limit=1).items[0]
    filters = {
        "no filter": Filters(),
        "scan": Filters(scan_id=waits.scan_id),
        "bucket": Filters(bucket="bucket-1"),
        "detector": Filters(detector_id=waits.detector_id),
        "uncertain": Filters(verdict=Verdict.UNCERTAIN),
        "external id": Filters(external_id="case 700"),
        "bucket and uncertain": Filters(bucket="bucket-1", verdict=Verdict.UNCERTAIN),
        "scan and bucket": Filters(scan_id=waits.scan_id, bucket="bucket-2"),
    }
    people = [Person("r0", DeskRole.REVIEWER), Person("r1", DeskRole.LEAD)]
    figures = {}
    for name, one in filters.items():
        for person in people:
            figures[f"decide, next, item; {name}, {person.role}"] = stroke(database, person, one)
        figures[f"first page; {name}"] = timed(partial(queue.waiting, database, people[0], one), 20)
        figures[f"how many; {name}"] = timed(partial(queue.how_many, database, one), 20)
    figures["second page"] = timed(second_page(database, people[0]), 20)
    figures["choices"] = timed(lambda: queue.choices(database), 20)
    figures["undo"] = timed(lambda: undo_last(database, people[0]), 50)
    return figures


def stroke(database: Database, person: Person, filters: Filters) -> dict[str, float]:
    """Of what a key press does: it decides, claims the next content, and collects what its page shows."""
    reasons = read_reasons()
    claimed = claims.next_content(database, person, filters, 600)

    def press() -> None:
        nonlocal claimed
        if claimed is None:
            raise SystemExit("nothing waits")
        found = item(database, person, claimed.sha256)
        if found is None:
            raise SystemExit("it is not there")
        shown = Shown(found.scan.id if found.scan else UUID(int=0), found.uri, found.verdict_id)
        decision = Decision(Statement.FAKE, None, "looks so")
        deciding.decide(database, person, claimed.id, claimed.sha256, shown, decision, CHANCE, reasons)
        claimed = claims.next_content(database, person, filters, 600)

    figures = timed(press, 40 if filters.external_id else REPETITIONS)
    if claimed is not None:
        with database.begin() as connection:
            connection.execute(text("DELETE FROM claims WHERE id = :id"), {"id": claimed.id})
    return figures


def second_page(database: Database, person: Person) -> Callable[[], object]:
    """The question for a page in the middle."""
    first = queue.waiting(database, person, Filters())
    return lambda: queue.waiting(database, person, Filters(), after=first.next)


def timed(question: Callable[[], object], repetitions: int) -> dict[str, float]:
    """Milliseconds: the median and the 95th percentile."""
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        question()
        times.append((time.perf_counter() - started) * 1000)
    return {"p50": round(statistics.median(times), 1), "p95": round(statistics.quantiles(times, n=20)[-1], 1)}


if __name__ == "__main__":
    main()
