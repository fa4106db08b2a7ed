"""Eight people decide about 500 contents at once: nothing is decided twice or lost, even when connections die."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from producers.web.access.people import Person
from producers.web.desk import claims
from producers.web.desk.claims import Claimed
from producers.web.desk.undo import undo_last
from tests.reviewing import ReviewDesk
from worker.database import Database, connect
from worker.errors import ClaimLostError, TransientError

T = TypeVar("T")
CONTENTS, PEOPLE = 500, 8
_FILL = """
WITH verdict AS (
    INSERT INTO verdicts (sha256, detector_id, uri, width, height, explain, answer, score, completion, contradicts,
                          prompt_tokens, completion_tokens, latency_ms)
    SELECT md5(n::text) || md5('x' || n), 1, 's3://b/' || n, 1, 1, 'all', 'fake', 0.9, '', false, 1, 1, 1
    FROM generate_series(1, :contents) n
    RETURNING id, sha256, uri, score
)
INSERT INTO contents (sha256, detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places)
SELECT sha256, 1, 'fake', score, id, uri, '00000000-0000-0000-0000-000000000001', now(), now(), 1 FROM verdict
"""
_KILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'fakesweep%' AND pid <> pg_backend_pid()
ORDER BY random() LIMIT 2
"""


@pytest.fixture
def desk(database: Database) -> ReviewDesk:
    desk = ReviewDesk(database)
    with database.begin() as connection:
        connection.execute(text(_FILL), {"contents": CONTENTS})
    for number in range(PEOPLE):
        desk.person(f"r{number}")
    return desk


def until_it_works(action: Callable[[], T]) -> T:
    """Repeats the action, as a person does when the page says that the server is away."""
    while True:
        try:
            return action()
        except (DBAPIError, TransientError):
            time.sleep(0.01)


def work(desk: ReviewDesk, name: str, seen: Counter[str], *, undoing: bool = False) -> int:
    """Decides until nothing waits, and sometimes takes a decision back. Returns how many decisions are left."""
    decided, chance = 0, random.Random(name)
    while (claimed := until_it_works(lambda: desk.next(name))) is not None or waits(desk):
        if claimed is None:
            time.sleep(0.01)  # others still work on the last ones, or take them back
            continue
        one: Claimed = claimed
        try:
            until_it_works(partial(desk.decide, name, one))
        except ClaimLostError:
            continue
        decided += 1
        seen[one.sha256] += 1
        if (
            undoing
            and chance.random() < 0.1
            and until_it_works(lambda: undo_last(desk.database, desk.people[name], claim_s=600))
        ):
            decided -= 1
            seen[one.sha256] -= 1
    return decided


def waits(desk: ReviewDesk) -> bool:
    return bool(until_it_works(lambda: desk.one("SELECT count(*) FROM review_queue")))


def all_at_once(desk: ReviewDesk, *, undoing: bool = False) -> Counter[str]:
    seen: Counter[str] = Counter()
    with ThreadPoolExecutor(PEOPLE) as pool:
        done = [pool.submit(work, desk, f"r{number}", seen, undoing=undoing) for number in range(PEOPLE)]
        counts = [one.result() for one in done]
    assert sum(counts) == CONTENTS
    return seen


def check(desk: ReviewDesk) -> None:
    """Each content has one review that counts, and nothing waits or is claimed."""
    counted = (
        "SELECT count(*) AS reviews, count(DISTINCT sha256) AS contents FROM reviews r"
        " WHERE NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id)"
    )
    assert desk.row(counted) == {"reviews": CONTENTS, "contents": CONTENTS}
    assert desk.one("SELECT count(*) FROM content_reviews WHERE reviews = 1") == CONTENTS
    assert desk.one("SELECT count(*) FROM review_queue") == 0
    assert desk.one("SELECT count(*) FROM claims") == 0


@pytest.mark.parametrize("undoing", [False, True])
def test_nothing_is_decided_twice_and_nothing_is_lost(desk: ReviewDesk, undoing: bool) -> None:
    seen = all_at_once(desk, undoing=undoing)
    assert {*seen.values()} <= {0, 1}
    check(desk)
    if not undoing:
        assert desk.one("SELECT count(*) FROM reviews") == CONTENTS


def test_nothing_is_decided_twice_or_lost_when_connections_die(desk: ReviewDesk) -> None:
    over, kills = threading.Event(), 0
    killer = connect(desk.database.url.render_as_string(hide_password=False))

    def kill() -> None:
        nonlocal kills
        while not over.wait(0.2):
            with killer.connect() as connection:
                connection.execute(text("SET application_name = 'killer'"))
                kills += len(connection.execute(text(_KILL)).all())

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        all_at_once(desk)
    finally:
        over.set()
        thread.join()
        killer.dispose()
    check(desk)
    assert kills > PEOPLE
    assert desk.one("SELECT count(*) FROM reviews") == CONTENTS


def test_a_content_that_many_ask_for_at_once_is_given_to_one(desk: ReviewDesk) -> None:
    people = [desk.people[f"r{number}"] for number in range(PEOPLE)]
    contents = [row["sha256"] for row in desk.rows("SELECT sha256 FROM contents LIMIT 20")]

    def ask(person: Person) -> list[str]:
        asked = (claims.claim(desk.database, person, one, 600) for one in contents)
        return [one.sha256 for one in asked if isinstance(one, Claimed)]

    with ThreadPoolExecutor(PEOPLE) as pool:
        got = Counter(one for held in pool.map(ask, people) for one in held)
    assert got == Counter(contents)
