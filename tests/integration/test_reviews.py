"""Reviews on a real Postgres: what is refused, which statement counts, and what waits in the queue."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from producers import retention, reviews
from producers.reviews import Stated
from tests.integration.test_scans import Archive, png
from tests.processes import fakesweep
from worker.database import Database
from worker.errors import (
    FakesweepError,
    InactiveReviewerError,
    NoSuchContentError,
    NoSuchReviewerError,
    NoSuchScanError,
    UsageError,
)
from worker.messages import Policy
from worker.tables import Review, ReviewKind, Statement

FAKE, REAL, UNCERTAIN = 250, 5, 128
"""Grey levels, named after the verdict of the scripted detector."""


@dataclass
class Desk:
    """Reviewers, and one scan of images. Each image has its own grey level and content."""

    archive: Archive
    scan: UUID = field(default_factory=uuid4)

    @property
    def database(self) -> Database:
        return self.archive.database

    def sweep(self, **levels: int) -> UUID:
        self.archive.images |= {f"s3://b/{name}": png(level, ord(name[0])) for name, level in levels.items()}
        self.scan = UUID(self.archive.sweep()["scan"])
        return self.scan

    def state(self, name: str, statement: str, reviewer: str = "r1", **more: Any) -> Review:
        given: dict[str, Any] = {"scan_id": self.scan, "uri": f"s3://b/{name}", "reviewer": reviewer} | more
        return reviews.review(self.database, Stated(statement=Statement(statement), **given))

    def sha256(self, name: str) -> str:
        return str(self.one(f"SELECT sha256 FROM objects WHERE uri = 's3://b/{name}'"))

    def status(self, name: str) -> dict[str, Any]:
        (row,) = self.rows(f"SELECT * FROM review_status WHERE sha256 = '{self.sha256(name)}'")
        return row

    def stands(self, name: str) -> str | None:
        """The statement that counts. Checks that the views and the rows of `contents` have the same one."""
        status = self.status(name)
        kept = self.rows(f"SELECT statement, reviewed_at FROM contents WHERE sha256 = '{self.sha256(name)}'")
        assert [(row["statement"], row["reviewed_at"]) for row in kept] == [
            (status["statement"], status["reviewed_at"]) for _ in kept
        ]
        statement: str | None = status["statement"]
        return statement

    def queue(self) -> list[str]:
        return [row["uri"].removeprefix("s3://b/") for row in self.rows("SELECT * FROM review_queue")]

    def rows(self, query: str) -> list[dict[str, Any]]:
        with self.database.connect() as connection:
            return [dict(row) for row in connection.execute(text(query)).mappings()]

    def one(self, query: str) -> Any:
        ((value,),) = (row.values() for row in self.rows(query))
        return value


@pytest.fixture
def desk(database: Database) -> Desk:
    for name in ("r1", "r2", "r3"):
        reviews.add_reviewer(database, name)
    return Desk(Archive(database))


@pytest.mark.parametrize(("level", "verdict"), [(FAKE, "fake"), (UNCERTAIN, "uncertain"), (REAL, "real")])
def test_a_review_keeps_what_its_author_saw(desk: Desk, level: int, verdict: str) -> None:
    scan = desk.sweep(a=level)
    row = desk.state("a", "real", note="a phone's\x00 noise", reason_code="noise")
    (finding,) = desk.rows("SELECT * FROM finding_details")
    assert (row.scan_id, row.uri, row.sha256, row.verdict_id) == (
        scan, "s3://b/a", finding["sha256"], finding["verdict_id"],
    )  # fmt: skip
    assert (row.statement, row.verdict, row.score, row.kind) == ("real", verdict, finding["score"], "first")
    assert (row.detector_id, row.note, row.reason_code) == (1, "a phone's noise", "noise")
    assert desk.stands("a") == "real"


def test_the_verdict_shown_is_by_the_scans_own_thresholds(desk: Desk) -> None:
    desk.sweep(a=UNCERTAIN)
    strict = UUID(desk.archive.sweep(policy=Policy(fake_from=0.5, real_to=0.1))["scan"])
    assert desk.state("a", "fake").verdict == "uncertain"
    assert desk.state("a", "fake", scan_id=strict).verdict == "fake"
    retention.drop_scan(desk.database, strict)
    shown = desk.state("a", "fake", scan_id=strict, sha256=desk.sha256("a"))
    assert shown.verdict == "fake", "also when its findings are gone"
    with pytest.raises(NoSuchContentError, match=r"judged the image at s3://b/a; scan it first, or name the content"):
        desk.state("a", "fake", scan_id=strict)


def test_a_first_review_decides_and_a_contradiction_is_a_dispute(desk: Desk) -> None:
    desk.sweep(a=FAKE, b=UNCERTAIN)
    assert desk.queue() == ["a", "b"]
    assert desk.state("b", "fake").kind == "first"
    assert (desk.stands("b"), desk.queue()) == ("fake", ["a"])
    assert desk.state("b", "real", "r2").kind == "second"
    assert (desk.stands("b"), desk.queue()) == (None, ["a", "b"])
    (_, waiting) = desk.rows("SELECT * FROM review_queue")
    assert (waiting["disputed"], waiting["reviews"], waiting["places"]) == (True, 2, 1)
    assert (waiting["detector_name"], waiting["verdict"], waiting["scan_id"]) == ("scripted", "uncertain", desk.scan)
    assert waiting["age_s"] > 0
    desk.state("b", "cannot_tell", "r3")
    assert desk.stands("b") is None, "'cannot tell' settles nothing"
    desk.state("b", "real", "r3")
    assert (desk.stands("b"), desk.queue()) == ("real", ["a"]), "two of three say so"
    status = desk.status("b")
    assert (status["says_fake"], status["says_real"], status["says_cannot_tell"]) == (1, 2, 0)
    assert (status["reviews"], status["appeals"], status["disputed"], status["last_reviewer"]) == (4, 0, False, "r3")


def test_the_newest_appeal_outranks_all_reviews(desk: Desk) -> None:
    desk.sweep(a=FAKE)
    desk.state("a", "fake")
    desk.state("a", "fake", "r2")
    assert desk.state("a", "real", "r3", kind=ReviewKind.APPEAL).kind == "appeal"
    assert desk.stands("a") == "real"
    desk.state("a", "fake", "r2")
    assert desk.stands("a") == "real"
    desk.state("a", "cannot_tell", "r1", kind=ReviewKind.APPEAL)
    assert (desk.stands("a"), desk.status("a")["appeals"], desk.queue()) == ("cannot_tell", 2, [])


def test_a_reviewer_may_change_their_mind(desk: Desk) -> None:
    desk.sweep(a=FAKE)
    desk.state("a", "fake")
    assert desk.state("a", "real").kind == "first", "nobody else has reviewed it"
    assert desk.stands("a") == "real"


def test_the_highest_score_and_then_the_oldest_come_first(desk: Desk) -> None:
    desk.sweep(c=FAKE, u=UNCERTAIN, r=REAL)
    desk.sweep(d=FAKE)
    assert desk.queue() == ["d", "c", "u"], "the score of d is a little higher"
    with desk.database.begin() as connection:
        connection.execute(text("UPDATE contents SET score = 0.9 WHERE verdict = 'fake'"))
        connection.execute(text("UPDATE contents SET score = NULL WHERE verdict = 'uncertain'"))
    assert desk.queue() == ["c", "d", "u"]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"scan_id": UUID(int=0)}, NoSuchScanError, "there is no scan 0000"),
        ({"reviewer": "nobody"}, NoSuchReviewerError, "there is no reviewer nobody; add one with fakesweep reviewer"),
        ({"reviewer": "r3"}, InactiveReviewerError, "the reviewer r3 is disabled; fakesweep reviewer add"),
        ({"sha256": "00" * 32}, NoSuchContentError, "no detector has judged the content 0000"),
        ({"uri": "s3://b/none"}, NoSuchContentError, "found nothing at s3://b/none; name a scan"),
        ({"uri": "s3://b/text"}, NoSuchContentError, "no detector has judged the content"),
        ({"verdict_id": 99}, NoSuchContentError, "there is no verdict 99"),
        ({"verdict_id": 2, "sha256": "{a}"}, NoSuchContentError, "verdict 2 is about the content"),
        ({"verdict_id": 2}, NoSuchContentError, "is not known to have been at s3://b/a; name a place"),
        ({"sha256": "{b}"}, NoSuchContentError, "is not known to have been at s3://b/a; name a place"),
    ],
)
def test_a_review_of_what_does_not_exist_is_refused(
    desk: Desk, changes: dict[str, Any], error: type[FakesweepError], said: str
) -> None:
    desk.archive.images["s3://b/text"] = b"text"
    desk.sweep(a=FAKE, b=FAKE)
    reviews.disable_reviewer(desk.database, "r3")
    given = {name: value.format(a=desk.sha256("a"), b=desk.sha256("b")) if isinstance(value, str) else value
             for name, value in changes.items()}  # fmt: skip
    with pytest.raises(error, match=said) as found:
        desk.state("a", "fake", **given)
    assert "\n" not in str(found.value)
    row = {"scan_id": desk.scan, "uri": "s3://b/a", "reviewer": "r1", "statement": "fake"} | given
    names, values = ", ".join(row), ", ".join(f"'{value}'" for value in row.values())
    with pytest.raises(IntegrityError), desk.database.begin() as connection:
        connection.execute(text(f"INSERT INTO reviews ({names}) VALUES ({values})"))
    assert desk.one("SELECT count(*) FROM reviews") == 0


def test_a_scan_that_judged_nothing_showed_no_verdict(desk: Desk) -> None:
    desk.sweep(a=FAKE)
    empty = desk.archive.start()
    with desk.database.begin() as connection:
        connection.execute(text("UPDATE scans SET dropped_at = now() WHERE id = :id"), {"id": empty})
    with pytest.raises(NoSuchContentError, match="has judged nothing"):
        desk.state("a", "fake", scan_id=empty, sha256=desk.sha256("a"))


def test_decisions_of_the_release_before_must_say_what_the_content_is(desk: Desk) -> None:
    """The release before writes a decision, and no statement."""
    desk.sweep(a=FAKE, b=UNCERTAIN)
    insert = "INSERT INTO reviews (scan_id, uri, decision, reviewer) VALUES (:scan, :uri, :decision, 'r1')"
    with desk.database.begin() as connection:
        connection.execute(text(insert), {"scan": desk.scan, "uri": "s3://b/a", "decision": "overturned"})
    assert desk.stands("a") == "real"
    with pytest.raises(IntegrityError, match="states nothing"), desk.database.begin() as connection:
        connection.execute(text(insert), {"scan": desk.scan, "uri": "s3://b/b", "decision": "overturned"})
    desk.state("b", "fake")
    desk.state("a", "cannot_tell")
    assert [row["decision"] for row in desk.rows("SELECT decision FROM reviews ORDER BY id")] == [
        "overturned", "overturned", "cannot_tell",
    ]  # fmt: skip


def test_reviews_are_never_changed(desk: Desk) -> None:
    desk.sweep(a=FAKE)
    desk.state("a", "fake")
    for change in ("UPDATE reviews SET statement = 'real'", "DELETE FROM reviews"):
        with pytest.raises(DBAPIError, match="append-only"), desk.database.begin() as connection:
            connection.execute(text(change))


def test_dropped_findings_can_be_reviewed(desk: Desk) -> None:
    desk.sweep(a=FAKE, b=REAL, u=UNCERTAIN)
    retention.drop_scan(desk.database, desk.scan)
    for name, verdict in (("a", "fake"), ("b", "real"), ("u", "uncertain")):
        row = desk.state(name, "fake", sha256=desk.sha256(name))
        assert (row.verdict, row.detector_id, row.verdict_id is None) == (verdict, 1, False)
        assert desk.stands(name) == "fake"
    with pytest.raises(NoSuchContentError, match="not known to have been at"):
        desk.state("elsewhere", "fake", sha256=desk.sha256("a"))


def test_a_replaced_content_can_be_reviewed_as_it_was_seen(desk: Desk) -> None:
    desk.sweep(a=FAKE)
    (seen,) = desk.rows("SELECT sha256, verdict_id FROM findings")
    desk.sweep(a=REAL)
    with pytest.raises(NoSuchContentError):
        desk.state("other", "fake", sha256=seen["sha256"])
    row = desk.state("a", "fake", **seen)
    assert (row.sha256, row.verdict) == (seen["sha256"], "fake")
    assert desk.one(f"SELECT statement FROM contents WHERE sha256 = '{seen['sha256']}'") == "fake"


def test_a_statement_counts_for_another_detectors_verdict_too(desk: Desk) -> None:
    desk.sweep(a=FAKE, b=FAKE)
    desk.state("a", "real")
    again = desk.archive.start(rejudge=True)
    desk.archive.judge(desk.archive.publish(again), desk.archive.parts(revision="2"))
    kept = desk.rows(f"SELECT statement FROM contents WHERE sha256 = '{desk.sha256('a')}'")
    assert [row["statement"] for row in kept] == ["real", "real"]
    assert desk.queue() == ["b"], "a is gone, and b comes once: the older detector's verdict is superseded"
    assert desk.stands("a") == "real"
    assert desk.state("a", "real").detector_id == 1, "each scan shows the verdict of its own finding"
    assert desk.state("a", "real", scan_id=again).detector_id == 2


NEW_ROW = """
INSERT INTO contents (sha256, detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places)
SELECT sha256, 99, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places FROM contents
"""
A_REVIEW = "INSERT INTO reviews (scan_id, uri, statement, reviewer) VALUES (%s, 's3://b/a', %s, %s)"


@contextmanager
def beside(database_url: str, *statement: Any) -> Iterator[psycopg.Connection[Any]]:
    """Runs a statement in another session. In this block, the caller must end its own transaction."""
    with psycopg.connect(database_url) as other:

        def run() -> None:
            with other.transaction():
                other.execute(*statement)

        thread = threading.Thread(target=run)
        thread.start()
        yield other
        thread.join(20)
        assert not thread.is_alive()


def wait_until_locked(connection: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> None:
    waiting = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
    until = time.monotonic() + 20
    while connection.execute(waiting, [other.info.backend_pid]).fetchone() != ("Lock",):
        assert time.monotonic() < until, "it does not wait"
        connection.execute("SELECT pg_stat_clear_snapshot()")


@pytest.mark.parametrize("first", ["row", "review"])
def test_a_row_that_is_written_during_the_review_gets_the_statement(desk: Desk, database_url: str, first: str) -> None:
    desk.sweep(a=FAKE)
    row, review = (NEW_ROW,), (A_REVIEW, (desk.scan, "real", "r1"))
    started, later = (row, review) if first == "row" else (review, row)
    with psycopg.connect(database_url) as connection:
        connection.execute(*started)
        with beside(database_url, *later) as other:
            wait_until_locked(connection, other)
            connection.commit()
    assert [one["statement"] for one in desk.rows("SELECT statement FROM contents")] == ["real", "real"]


AGAIN = "WITH gone AS (DELETE FROM findings WHERE scan_id = %s RETURNING *) INSERT INTO findings SELECT * FROM gone"


@pytest.mark.parametrize("known", [(), (1,), (1, 2)])
def test_of_two_detectors_at_the_same_time_the_newer_one_counts(
    desk: Desk, database_url: str, known: tuple[int, ...]
) -> None:
    first = desk.sweep(a=FAKE)
    second = desk.archive.start(rejudge=True)
    desk.archive.judge(desk.archive.publish(second), desk.archive.parts(revision="2"))
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE detectors SET started_at = now() - interval '30 days' WHERE id = 1")
        connection.execute("DELETE FROM contents WHERE detector_id <> ALL (%s)", [list(known)])
        connection.commit()
        connection.execute(AGAIN, [first])
        with beside(database_url, AGAIN, [second]) as other:
            wait_until_locked(connection, other)
            connection.commit()
    kept = desk.rows("SELECT detector_id, superseded FROM contents ORDER BY detector_id")
    assert [(row["detector_id"], row["superseded"]) for row in kept] == [(1, True), (2, False)]
    assert desk.queue() == ["a"]


def test_a_review_waits_for_a_content_before_it_locks_rows(desk: Desk, database_url: str) -> None:
    """Triggers on findings take locks in the same order. In another order, the two could wait for each other."""
    desk.sweep(a=FAKE)
    key = f"hashtext('{desk.sha256('a')}') & 4095"
    with psycopg.connect(database_url) as connection:
        connection.execute(f"SELECT pg_advisory_xact_lock({0x52455649}, {key})".encode())
        with beside(database_url, A_REVIEW, (desk.scan, "real", "r1")) as other:
            wait_until_locked(connection, other)
            connection.execute("SELECT FROM contents FOR UPDATE NOWAIT")
            connection.commit()
    assert desk.stands("a") == "real"


@pytest.mark.parametrize("level", [FAKE, REAL])
def test_two_reviews_at_the_same_time_know_of_each_other(desk: Desk, database_url: str, level: int) -> None:
    desk.sweep(a=level)
    with psycopg.connect(database_url) as connection:
        connection.execute(A_REVIEW, (desk.scan, "fake", "r1"))
        with beside(database_url, A_REVIEW, (desk.scan, "real", "r2")) as other:
            wait_until_locked(connection, other)
            connection.commit()
    assert (desk.stands("a"), desk.status("a")["disputed"]) == (None, True)
    assert [row["kind"] for row in desk.rows("SELECT kind FROM reviews ORDER BY id")] == ["first", "second"]
    assert desk.one("SELECT statement FROM reviewed_verdicts") is None


def test_the_quality_of_a_detector(desk: Desk) -> None:
    desk.sweep(a=FAKE, b=FAKE, c=FAKE, d=FAKE, e=REAL, f=REAL, u=UNCERTAIN, v=UNCERTAIN)
    for name, statement in zip(
        "abcdefuv", ["fake", "fake", "real", "fake", "real", "fake", "fake", "real"], strict=True
    ):
        desk.state(name, statement)
    desk.state("d", "real", "r2")
    monday = desk.one("SELECT date_trunc('week', now() AT TIME ZONE 'UTC')::date")
    (row,) = desk.rows("SELECT * FROM detector_quality")
    low, high = row.pop("overturn_low"), row.pop("overturn_high")
    assert row == {
        "detector_id": 1, "detector_name": "scripted", "week": monday, "contents": 8,
        "fake_confirmed": 2, "fake_overturned": 1, "real_confirmed": 1, "real_overturned": 1,
        "uncertain_fake": 1, "uncertain_real": 1, "cannot_tell": 0, "disputed": 1, "overturn_rate": 0.4,
    }  # fmt: skip
    assert (low, high) == (pytest.approx(0.1176, abs=1e-4), pytest.approx(0.7693, abs=1e-4))
    desk.state("d", "real", "r3", kind=ReviewKind.APPEAL)
    desk.state("a", "cannot_tell", "r3", kind=ReviewKind.APPEAL)
    (row,) = desk.rows("SELECT * FROM detector_quality")
    assert (row["fake_confirmed"], row["fake_overturned"], row["cannot_tell"], row["disputed"]) == (1, 2, 1, 0)


def test_a_content_counts_in_the_week_of_its_first_review(desk: Desk) -> None:
    desk.sweep(a=FAKE, b=UNCERTAIN)
    sunday = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
    insert = text(
        "INSERT INTO reviews (scan_id, uri, statement, reviewer, created_at)"
        " VALUES (:scan, :uri, :statement, 'r1', :at)"
    )
    for uri, at, statement in (
        ("s3://b/a", sunday + timedelta(minutes=1), "fake"), ("s3://b/a", sunday, "real"), ("s3://b/b", sunday, "fake"),
        ("s3://b/a", sunday + timedelta(days=1), "fake"),
    ):  # fmt: skip
        with desk.database.begin() as connection:
            connection.execute(insert, {"scan": desk.scan, "uri": uri, "statement": statement, "at": at})
    (row,) = desk.rows("SELECT * FROM detector_quality")
    assert (f"{row['week']}", row["contents"], row["fake_confirmed"]) == ("2026-11-16", 2, 1)
    assert (row["overturn_rate"], row["uncertain_fake"]) == (0, 1)


def test_no_rate_without_a_decision(desk: Desk) -> None:
    desk.sweep(u=UNCERTAIN)
    desk.state("u", "fake")
    (row,) = desk.rows("SELECT * FROM detector_quality")
    assert (row["overturn_rate"], row["overturn_low"], row["overturn_high"]) == (None, None, None)


def test_the_command_for_reviewers(database_url: str, database: Database) -> None:
    def ran(*arguments: str, code: int = 0) -> str:
        done = fakesweep("reviewer", *arguments, environment={"DATABASE_URL": database_url})
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout

    assert ran("add", "blue heron") == ""
    assert ran("add", "kestrel") == ""
    ran("disable", "kestrel")
    assert ran("list") == "blue heron  active  reviewer\nkestrel  disabled  reviewer\n"
    ran("add", "kestrel")
    assert ran("list") == "blue heron  active  reviewer\nkestrel  active  reviewer\n"
    assert ran("disable", "nobody", code=1) == (
        "fakesweep: there is no reviewer nobody; fakesweep reviewer list names them\n"
    )
    assert ran("add", " x", code=2).startswith("fakesweep: a reviewer's name has 1 to 100 printable characters")
    for wrong in (("add",), ("list", "x")):
        assert "name" in ran(*wrong, code=2)
    for name in ("", "a\nb", "x" * 101):
        with pytest.raises(UsageError):
            reviews.add_reviewer(database, name)
