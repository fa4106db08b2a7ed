"""Random histories of reviews: the database finds the same statement as the rule of docs/decisions/0016 in Python."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from worker.database import Database

START = datetime(2026, 7, 1, tzinfo=UTC)
SCAN = UUID(int=1)
REVIEWERS = ("r1", "r2", "r3", "r4")


class Said(NamedTuple):
    """A review. Some are older than reviews that were stored before them, as imported ones may be."""

    reviewer: str
    kind: str
    statement: str
    minute: int
    detector: int


HISTORIES = st.lists(
    st.builds(
        Said,
        st.sampled_from(REVIEWERS),
        st.sampled_from(("first", "second", "second", "appeal")),
        st.sampled_from(("fake", "fake", "real", "real", "cannot_tell")),
        st.integers(0, 6),
        st.sampled_from((1, 2)),
    ),
    min_size=1,
    max_size=8,
)


def standing(history: Sequence[Said]) -> str | None:
    """The statement that counts, or None if disputed.

    It is that of the newest appeal. If there is none, it is what more reviewers say, each by their newest review.
    """
    in_time = [said for _, said in sorted(enumerate(history), key=lambda one: (one[1].minute, one[0]))]
    appeals = [said.statement for said in in_time if said.kind == "appeal"]
    if appeals:
        return appeals[-1]
    words = Counter({said.reviewer: said.statement for said in in_time}.values())
    if words["fake"] == words["real"]:
        return None if words["fake"] else "cannot_tell"
    return "fake" if words["fake"] > words["real"] else "real"


@pytest.fixture
def judged_twice(database: Database) -> Database:
    """Two detectors, a scan whose findings were dropped, and reviewers."""
    with database.begin() as connection:
        connection.execute(text(_GROUND), {"scan": SCAN})
        connection.execute(
            text("INSERT INTO reviewers (name) SELECT unnest(CAST(:names AS text[]))"), {"names": list(REVIEWERS)}
        )
    return database


_GROUND = """
WITH detector AS (
    INSERT INTO detectors (fingerprint, name, model, revision, prompt_revision, preprocessing_revision, dtype)
    SELECT 'f' || n, 'd' || n, 'm', 'r', 'p', 'q', 'float16' FROM generate_series(1, 2) n
)
INSERT INTO scans (id, kind, name, source, policy, partition, status, listed, skipped, judged, reused, failed,
                   fake, uncertain, real, dropped_at)
VALUES (:scan, 'scan', 'n', 's', '{"fake_from": 0.6, "real_to": 0.4}', 'p', 'done', 0, 0, 0, 0, 0, 0, 0, 0, now());
"""
_VERDICT = """
INSERT INTO verdicts (sha256, detector_id, uri, width, height, explain, answer, score, completion, contradicts,
                      prompt_tokens, completion_tokens, latency_ms)
VALUES (:sha256, :detector, 's3://b/a', 1, 1, 'all', 'fake', 0.9, '', false, 1, 1, 1) RETURNING id
"""
_CONTENT = """
INSERT INTO contents (sha256, detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places)
VALUES (:sha256, :detector, 'fake', 0.9, :verdict, 's3://b/a', :scan, now(), now(), 1)
"""
_REVIEW = """
INSERT INTO reviews (scan_id, uri, sha256, verdict_id, statement, reviewer, kind, created_at)
VALUES (:scan, 's3://b/a', :sha256, :verdict, :statement, :reviewer, :kind, :at)
"""
_numbers = count()


@given(history=HISTORIES, known_first=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_statement_that_counts_is_that_of_the_rule(
    judged_twice: Database, history: list[Said], known_first: bool
) -> None:
    sha256 = hashlib.sha256(f"{next(_numbers)}".encode()).hexdigest()
    with judged_twice.begin() as connection:
        verdicts = {one: _scalar(connection, _VERDICT, sha256=sha256, detector=one) for one in (1, 2)}
        given = {"sha256": sha256, "scan": SCAN}
        contents = [given | {"detector": one, "verdict": verdicts[one]} for one in (1, 2)]
        connection.execute(text(_CONTENT), contents[0] if known_first else contents)
        for length, said in enumerate(history, start=1):
            values = {"statement": said.statement, "reviewer": said.reviewer, "kind": said.kind}
            at = START + timedelta(minutes=said.minute)
            connection.execute(text(_REVIEW), given | values | {"verdict": verdicts[said.detector], "at": at})
            _check(connection, sha256, history[:length])
        if known_first:
            connection.execute(text(_CONTENT), contents[1])
            _check(connection, sha256, history)


def _check(connection: Connection, sha256: str, history: Sequence[Said]) -> None:
    expected, newest = standing(history), START + timedelta(minutes=max(said.minute for said in history))
    given = {"sha256": sha256}
    (status,) = connection.execute(text("SELECT * FROM review_status WHERE sha256 = :sha256"), given).mappings()
    assert (status["statement"], status["disputed"], status["reviews"]) == (expected, expected is None, len(history))
    assert (status["reviewed_at"], status["appeals"]) == (newest, sum(said.kind == "appeal" for said in history))
    kept = connection.execute(text("SELECT statement, reviewed_at FROM contents WHERE sha256 = :sha256"), given).all()
    assert set(map(tuple, kept)) == {(expected, newest)}
    query = "SELECT detector_id, statement FROM reviewed_verdicts WHERE sha256 = :sha256 ORDER BY detector_id"
    seen = sorted({said.detector for said in history})
    assert list(map(tuple, connection.execute(text(query), given))) == [(one, expected) for one in seen]
    waiting = connection.execute(text("SELECT * FROM review_queue WHERE sha256 = :sha256"), given).mappings().all()
    assert [(row["disputed"], row["reviews"]) for row in waiting] == [
        (True, len(history)) for _ in kept if expected is None
    ]


def _scalar(connection: Connection, query: str, **values: Any) -> Any:
    return connection.execute(text(query), values).scalar()
