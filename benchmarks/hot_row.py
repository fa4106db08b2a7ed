"""Do many workers on one scan wait for its row? Compares 16 processes on one scan with 16 that have a scan each.

    python -m benchmarks.hot_row

Each process saves messages of 16 new images as a worker does, one after the other. There are several conditions:
without a delay; with a delay of ROUND_TRIP_S before every statement and commit, as between two machines in one data
centre; with TURN_S, as in a process whose threads wait for their turn; and with slow commits. If a row is locked during
such a delay, the others wait for it. Rounds with one scan and with many scans take turns.
"""

import hashlib
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any
from uuid import UUID

from sqlalchemy import event

from benchmarks.comparison import Comparison, Wanted, in_turns
from benchmarks.scratch import scratch_database, write_result
from producers.scans import Listing, start_scan
from worker.case import Case, Content, Delivery, Judged
from worker.database import Database, connect, findings, transaction
from worker.database.detectors import register_detector
from worker.detector.verdicts import Answer, Judgement
from worker.messages import MAX_IMAGES, ImageRef, Policy
from worker.tables import Scan, ScanStatus
from worker.testing import scripted_description

PROCESSES = 16
ROUNDS = 3
ROUND_S = 4.0
ROUND_TRIP_S = 0.001
TURN_S = 0.02
"""How long one of 32 threads may wait for Python's lock: while four others hold it for 5 ms each."""
SLOW_COMMIT_US = 2000
"""Postgres' commit_delay, in microseconds: simulates a slow disk or replica."""


CONDITIONS = {
    "no_delay": (0.0, 0),
    "round_trip": (ROUND_TRIP_S, 0),
    "busy_process": (TURN_S, 0),
    "slow_commit": (0.0, SLOW_COMMIT_US),
}
"""Seconds before each statement and commit, and additional microseconds for each commit."""

TARGET = 0.8


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares messages per second into one scan with those into a scan per process."""
    with scratch_database() as (url, database):
        detector_id = register_detector(database, scripted_description().row())
        for condition, delays in CONDITIONS.items():
            if wanted(name := f"hot_row.{condition}"):
                one, many = _rates(url, database, detector_id, *delays)
                yield Comparison(name, "messages/s", one, many, TARGET, higher_is_better=True)


def main() -> None:
    with scratch_database() as (url, database):
        detector_id = register_detector(database, scripted_description().row())
        figures = {name: _compared(url, database, detector_id, *delays) for name, delays in CONDITIONS.items()}
    settings = {
        "processes": PROCESSES,
        "rounds": ROUNDS,
        "round_s": ROUND_S,
        "round_trip_s": ROUND_TRIP_S,
        "turn_s": TURN_S,
        "slow_commit_us": SLOW_COMMIT_US,
    }
    write_result("hot_row", settings | figures | {"before": BEFORE})


BEFORE = {
    "no_delay": {"one_scan_messages_per_s": 41, "scan_each_messages_per_s": 39, "ratio": 1.046},
    "round_trip": {"one_scan_messages_per_s": 37, "scan_each_messages_per_s": 36, "ratio": 1.018},
    "busy_process": {"one_scan_messages_per_s": 11, "scan_each_messages_per_s": 18, "ratio": 0.616},
    "slow_commit": {"one_scan_messages_per_s": 41, "scan_each_messages_per_s": 38, "ratio": 1.081},
}
"""The figures of commit d6bb875, which sent 58 statements per message and updated the scan's row four times. They were
measured a few minutes earlier on the same machine.
"""


def _compared(url: str, database: Database, detector_id: int, delay_s: float, commit_us: int) -> dict[str, Any]:
    """Returns the medians of the rates and of their ratio."""
    one, many = _rates(url, database, detector_id, delay_s, commit_us)
    ratios = [ours / reference for ours, reference in zip(one, many, strict=True)]
    return {
        "one_scan_messages_per_s": round(statistics.median(one)),
        "scan_each_messages_per_s": round(statistics.median(many)),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
    }


def _rates(
    url: str, database: Database, detector_id: int, delay_s: float, commit_us: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns messages per second into one scan and into many, for each of ROUNDS rounds."""

    def rate(scans: list[UUID]) -> float:
        return _rate(url, database, scans, detector_id, delay_s, commit_us)

    return in_turns(
        lambda: rate([_start(database)] * PROCESSES),
        lambda: rate([_start(database) for _ in range(PROCESSES)]),
        ROUNDS,
    )


def _start(database: Database) -> UUID:
    """Starts a scan that continues for longer than a round."""
    scan = start_scan(database, Listing(sources=("s3://b/",)), policy=Policy(fake_from=0.6, real_to=0.4))
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        row.listed, row.status = 10**9, ScanStatus.RUNNING
    return scan.id


def _rate(url: str, database: Database, scans: list[UUID], detector_id: int, delay_s: float, commit_us: int) -> float:
    """Returns messages per second of all processes together. Ends the benchmark if the counters are not exact."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__spec__.name])  # otherwise each of them imports everything again
    ready, counts = context.Barrier(PROCESSES), context.Queue()
    processes = [
        context.Process(target=_work, args=(url, scan_id, detector_id, delay_s, commit_us, number, ready, counts))
        for number, scan_id in enumerate(scans)
    ]
    for process in processes:
        process.start()
    saved = [counts.get() for _ in processes]
    for process in processes:
        process.join()
    messages = sum(count for count, _ in saved)
    with transaction(database) as session:
        judged = sum(session.get_one(Scan, scan_id).judged for scan_id in set(scans))
    saved_in_all = messages + PROCESSES  # each process saved one before its clock started
    if judged != saved_in_all * MAX_IMAGES:
        raise SystemExit(f"{saved_in_all} messages of {MAX_IMAGES} were saved, but {judged} images are counted")
    return float(sum(count / seconds for count, seconds in saved))


def _work(
    url: str, scan_id: UUID, detector_id: int, delay_s: float, commit_us: int, number: int, ready: Barrier, counts: Any
) -> None:
    database = connect(url, pool_size=1)
    if commit_us:
        event.listen(database, "connect", partial(_slow_commits, commit_us))
    if delay_s:
        event.listen(database, "before_cursor_execute", lambda *_: time.sleep(delay_s))
        event.listen(database, "commit", lambda *_: time.sleep(delay_s))
    with transaction(database) as session:
        scan = session.get_one(Scan, scan_id)
    policy = Policy.model_validate(scan.policy).filled(fake_from=0.6, real_to=0.4)
    delivery = Delivery(scan, policy, detector_id)
    findings.save(database, _message(scan_id, number, 0), delivery)
    ready.wait()
    started, messages = time.monotonic(), 0
    while time.monotonic() - started < ROUND_S:
        messages += 1
        findings.save(database, _message(scan_id, number, messages), delivery)
    counts.put((messages, time.monotonic() - started))


def _slow_commits(delay_us: int, connection: Any, _record: object) -> None:
    connection.execute(f"SET commit_delay = {delay_us}")
    connection.execute("SET commit_siblings = 0")
    connection.commit()


def _message(scan_id: UUID, process: int, number: int) -> list[Case]:
    """Returns 16 images that were judged, each with another content."""
    judgement = Judgement(Answer.REAL, -3.0, 0.05, "This is a real image.", None, False, False, 590, 7, 20)
    cases = []
    for image in range(MAX_IMAGES):
        name = f"{scan_id}/{process}/{number}/{image}"
        content = Content(hashlib.sha256(name.encode()).hexdigest(), 100_000)
        cases.append(Case(ImageRef(uri=f"s3://b/{name}", etag=name), Judged(content, judgement, (640, 480))))
    return cases


if __name__ == "__main__":
    main()
