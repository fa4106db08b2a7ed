"""The search for near duplicates finds exactly what a comparison with all hashes finds, and reads no whole table."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from producers.near import MAX_DISTANCE, near_counts, near_duplicates
from tests.reviewing import ALWAYS, ReviewDesk
from tests.reviewing import sha256_of as sha256_of_name
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.testing import scripted_description

_HASHES = """
INSERT INTO content_hashes (sha256, pdq, quality, in_question)
SELECT sha256, pdq::bit(256), quality, in_question FROM json_to_recordset(CAST(:rows AS json))
AS given (sha256 text, pdq text, quality int, in_question boolean)
"""
_CONTENTS = """
INSERT INTO contents (sha256, detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places)
SELECT sha256, :detector, 'fake', 0.9, 1, 's3://b/' || sha256, gen_random_uuid(), now(), now(), 1
FROM content_hashes WHERE in_question
"""


def sha256_of(number: int) -> str:
    return f"{number:064x}"


def fill(database: Database, hashes: list[int], **given: Any) -> None:
    """Empties the tables, and stores contents in question with these hashes, numbered from 0."""
    values = {"quality": 100, "in_question": True} | given
    rows = [{"sha256": sha256_of(n), "pdq": f"{bits:0256b}", **values} for n, bits in enumerate(hashes)]
    detector = register_detector(database, scripted_description().row())
    with transaction(database) as session:
        session.execute(text("TRUNCATE content_hashes, contents"))
        session.execute(text(_HASHES), {"rows": json.dumps(rows)})
        session.execute(text(_CONTENTS), {"detector": detector})


def flip(bits: int, places: list[int]) -> int:
    for place in places:
        bits ^= 1 << place
    return bits


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.integers(0, 2**256 - 1),
    flips=st.lists(st.lists(st.integers(0, 255), min_size=0, max_size=60, unique=True), min_size=1, max_size=25),
    others=st.lists(st.integers(0, 2**256 - 1), max_size=5),
)
def test_the_search_misses_nothing_and_finds_nothing_else(
    database: Database, first: int, flips: list[list[int]], others: list[int]
) -> None:
    hashes = [first, *(flip(first, places) for places in flips), *others]
    fill(database, hashes)
    near = {n: (first ^ bits).bit_count() for n, bits in enumerate(hashes) if n}
    wanted = sorted((bits, sha256_of(n)) for n, bits in near.items() if bits <= MAX_DISTANCE)
    assert [(one.distance, one.sha256) for one in near_duplicates(database, sha256_of(0))] == wanted
    counts = near_counts(database, [sha256_of(n) for n in range(len(hashes))])
    assert counts[sha256_of(0)] == len(wanted)
    assert all(
        counts[sha256_of(n)] == sum((bits ^ other).bit_count() <= MAX_DISTANCE for other in hashes) - 1
        for n, bits in enumerate(hashes)
    )


def test_bits_that_differ_in_every_word_are_found(database: Database) -> None:
    """Two bits differ in each of 15 words, and one in the last: no word is the same, and one differs by one bit."""
    chance = random.Random(0)
    first = chance.getrandbits(256)
    for alone in range(16):
        places = [16 * word + one for word in range(16) for one in ((3,) if word == alone else (0, 15))]
        assert len(places) == MAX_DISTANCE
        fill(database, [first, flip(first, places), flip(first, [*places, 16 * alone + 4])])
        assert [one.distance for one in near_duplicates(database, sha256_of(0))] == [MAX_DISTANCE]


def test_only_contents_in_question_that_are_not_flat_are_found(database: Database) -> None:
    for given_ in ({"in_question": False}, {"quality": 49}):
        fill(database, [5, 5], **given_)
        assert near_duplicates(database, sha256_of(0)) == []
        assert near_counts(database, [sha256_of(0)]) == {sha256_of(0): 0}
    fill(database, [5, 5], quality=50)
    assert len(near_duplicates(database, sha256_of(0))) == 1


@pytest.mark.parametrize(
    ("change", "waits"),
    [("statement = 'fake'", False), ("verdict = 'real'", False), ("superseded = true", False), ("score = 0.5", True)],
)
def test_near_duplicates_wait_if_the_review_queue_shows_them(database: Database, change: str, waits: bool) -> None:
    fill(database, [5, 4, 7])
    with transaction(database) as session:
        session.execute(text(f"UPDATE contents SET {change} WHERE sha256 = :one"), {"one": sha256_of(1)})
        queue = set(session.execute(text("SELECT sha256 FROM review_queue")).scalars())
    found = {one.sha256: one for one in near_duplicates(database, sha256_of(0))}
    assert {sha256 for sha256, one in found.items() if one.waits} == queue - {sha256_of(0)}
    assert found[sha256_of(1)].waits is waits
    assert near_counts(database, [sha256_of(0)]) == {sha256_of(0): len(queue) - 1}
    assert near_duplicates(database, sha256_of(0), limit=1) == [found[sha256_of(1)]]


def test_the_second_reviewer_does_not_see_what_the_first_one_said(database: Database) -> None:
    desk = ReviewDesk(database)
    names = "abc"
    contents = [sha256_of_name(name) for name in names]
    for name in names:
        desk.flag(name)
    desk.alike(*names)
    desk.say("heron", "a", chance=ALWAYS)
    desk.say("heron", "b")

    def said(asked: str, person: str | None) -> dict[str, str | None]:
        return {one.sha256: one.statement for one in near_duplicates(database, asked, person=person)}

    a, b, c = contents
    assert said(c, "ibis") == {a: None, b: "fake"}
    assert said(a, "ibis") == {b: None, c: None}, "near duplicates would show what was said about it"
    assert said(c, "heron") == said(c, None) == {a: "fake", b: "fake"}
    desk.say("ibis", "a")
    assert said(c, "ibis") == {a: "fake", b: "fake"}


def test_an_unknown_content_has_no_near_duplicates(database: Database) -> None:
    assert near_duplicates(database, "0" * 64) == []
    assert near_counts(database, ["0" * 64]) == {"0" * 64: 0}
    assert near_counts(database, []) == {}


@contextmanager
def plans(database: Database) -> Iterator[list[str]]:
    """Collects Postgres' plan for each query that runs in this block."""
    seen: list[str] = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        if statement.lstrip().startswith("SELECT"):
            seen.extend(row[0] for row in cursor.execute(f"EXPLAIN {statement}", parameters).fetchall())

    event.listen(database, "before_cursor_execute", explain)
    yield seen
    event.remove(database, "before_cursor_execute", explain)


@pytest.mark.parametrize("analyzed", [False, True])
def test_no_whole_table_is_read(database: Database, analyzed: bool) -> None:
    chance = random.Random(0)
    fill(database, [chance.getrandbits(256) for _ in range(3000)])
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE content_hashes, contents" if analyzed else "VACUUM content_hashes"))
    with plans(database) as seen:
        near_duplicates(database, sha256_of(0))
        near_counts(database, [sha256_of(n) for n in range(50)])
    assert seen
    assert not [line for line in seen if "Seq Scan" in line]
    assert sum("Index Only Scan using ix_content_hashes_word_" in line for line in seen) == 32
