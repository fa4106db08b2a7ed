"""A person's picture is forgotten: nothing in the database points to it any more, and what was decided stays."""

from uuid import UUID

import psycopg
import pytest

from producers import submissions
from producers.dsa.complaints import decisions_about
from producers.forgetting import Picture, find_picture, forget, image_at
from producers.reporting import results
from producers.testing import InMemoryPublisher
from tests.integration.test_scans import Archive
from tests.persons import COPY, SECRET, URI, WORDS, Person, dump, forgotten, pointing, rows, run_sql, sha256_of
from tests.processes import fakesweep
from worker.database import Database
from worker.errors import ImageError, NoSuchContentError, Reason


def test_nothing_in_the_database_points_to_a_forgotten_picture(database: Database, database_url: str) -> None:
    person = Person(database)
    assert pointing(database_url) == list(WORDS)
    verdicts = "SELECT id, sha256, detector_id, answer, score, log_odds, created_at FROM verdicts ORDER BY id"
    decided = """SELECT id, sha256, statement, verdict, score, verdict_id, detector_id, decision, kind, reviewer,
                        reason_code, created_at FROM reviews ORDER BY id"""
    counts = "SELECT id, judged, reused, failed, fake, real FROM scans ORDER BY id"
    before = [rows(database, query) for query in (verdicts, decided, counts, "SELECT * FROM content_reviews")]
    findings = rows(database, "SELECT scan_id, verdict, score, sha256, outcome FROM findings ORDER BY 1, 4")
    (decision,) = decisions_about(database, URI)

    picture = forgotten(database, URI)

    assert picture.whole == {person.sha256}
    assert pointing(database_url) == []
    for table in ("claims", "looks", "skips", "second_looks"):
        assert rows(database, f"SELECT FROM {table}") == [], table
    places = rows(database, "SELECT etag FROM findings WHERE uri LIKE 'forgotten:%'")
    assert [one["etag"] for one in places] == [None] * len(places)
    assert places
    assert before == [rows(database, query) for query in (verdicts, decided, counts, "SELECT * FROM content_reviews")]
    assert findings == rows(database, "SELECT scan_id, verdict, score, sha256, outcome FROM findings ORDER BY 1, 4")
    (event,) = rows(database, "SELECT subject, details FROM events WHERE kind = 'forgotten'")
    (place,) = event["details"]["places"]
    assert place == f"forgotten:{sha256_of(database, URI)}"
    assert event["details"]["contents"] == [person.sha256]
    # A complaint finds the decision by the puid, by the SHA-256, and by the uri that only the person knows.
    for named in (decision["puid"], person.sha256, URI):
        assert decisions_about(database, named) == [decision]


def test_a_later_scan_of_the_same_uri_starts_anew(database: Database, database_url: str) -> None:
    person = Person(database)
    forgotten(database, URI)
    scan = UUID(person.archive.sweep()["scan"])
    found = person.archive.rows(scan)[URI]
    assert (found["outcome"], found["reused_from"]) == ("judged", None)
    assert rows(database, "SELECT places FROM contents WHERE sha256 = :sha256", sha256=person.sha256) == [{"places": 1}]
    forgotten(database, URI)
    assert SECRET not in dump(database_url)


def test_a_place_is_forgotten_and_the_same_picture_elsewhere_stays(database: Database, database_url: str) -> None:
    person = Person(database, copies=[COPY])
    picture = forgotten(database, URI)
    assert (picture.whole, picture.elsewhere) == (frozenset(), 1)
    assert SECRET not in dump(database_url)
    (content,) = rows(database, "SELECT uri, places FROM contents WHERE sha256 = :sha256", sha256=person.sha256)
    assert content == {"uri": COPY, "places": 1}
    assert rows(database, "SELECT FROM provenance WHERE sha256 = :sha256", sha256=person.sha256)
    forgotten(database, person.sha256)
    assert pointing(database_url) == []


def test_a_picture_that_only_failed_or_was_dropped_is_forgotten(database: Database, database_url: str) -> None:
    archive = Archive(database, {"s3://b/anna.png": b"no image"})
    scan = UUID(archive.sweep()["scan"])
    forgotten(database, "s3://b/anna.png")
    assert "anna" not in dump(database_url)
    assert submissions.retry(InMemoryPublisher(), database, scan, set(Reason)) == 0
    person = Person(database)
    run_sql(database, "UPDATE scans SET dropped_at = now()", "TRUNCATE findings")
    forgotten(database, URI)
    assert pointing(database_url) == []
    assert decisions_about(database, person.sha256)


def test_a_dry_run_changes_nothing_and_says_the_same(database: Database, database_url: str) -> None:
    Person(database)
    before = dump(database_url)
    picture = find_picture(database, URI)
    would = forget(database, picture, dry_run=True)
    assert _rows_of(dump(database_url)) == _rows_of(before)
    assert forget(database, picture).rows == would.rows


def _rows_of(dumped: str) -> list[str]:
    # setval: a sequence moves although the transaction is rolled back.
    return [line for line in dumped.splitlines() if "setval" not in line and "restrict" not in line]


def test_who_asks_for_what_is_not_there_or_does_not_confirm_is_refused(database: Database, database_url: str) -> None:
    Person(database)
    with pytest.raises(NoSuchContentError, match="nothing names s3://b/other"):
        find_picture(database, "s3://b/other.png")
    done = fakesweep("forget", URI, environment={"DATABASE_URL": database_url})
    assert done.returncode == 2
    assert "add --yes" in done.stderr
    with psycopg.connect(database_url, application_name="fakesweep 0013"):
        done = fakesweep("forget", URI, "--yes", environment={"DATABASE_URL": database_url})
    assert done.returncode != 0
    assert "0013 (1 connections); stop their processes" in done.stderr
    assert SECRET in dump(database_url)
    with pytest.raises(ImageError, match="the picture was forgotten"):
        image_at("forgotten:ab")


def test_failures_of_a_content_are_forgotten_by_itssha256_of(database: Database, database_url: str) -> None:
    person = Person(database)
    run_sql(database, "INSERT INTO replaced_failures (scan_id, uri, sha256, reason, detail, attempts, decided_at) "
            "VALUES (:scan, :uri, :sha256, 'engine_failed', 'anna', 1, now())",
            scan=person.scans[0], uri="s3://c/anna.png", sha256=person.sha256)  # fmt: skip
    assert find_picture(database, URI).elsewhere == 1
    forgotten(database, person.sha256)
    assert pointing(database_url) == []


def test_a_failure_alone_tells_which_content_was_at_a_place(database: Database) -> None:
    person = Person(database)
    run_sql(database, "INSERT INTO replaced_failures (scan_id, uri, sha256, reason, attempts, decided_at) "
            "VALUES (:scan, :uri, :sha256, 'engine_failed', 1, now())",
            scan=person.scans[0], uri=COPY, sha256=person.sha256)  # fmt: skip
    assert find_picture(database, COPY).about == {person.sha256}


def test_history_finds_what_was_kept(database: Database) -> None:
    person = Person(database)
    forgotten(database, URI)
    assert {row["sha256"] for row in results.history(database, URI)} == {person.sha256}
    assert [row["reason"] for row in results.replaced_failures(database, URI)] == ["corrupt"]


def test_first_and_last_places_keep_their_own_pseudonyms(database: Database) -> None:
    person = Person(database, copies=[COPY])
    run_sql(database, "UPDATE contents SET first_flagged_uri = :copy, last_flagged_uri = :uri WHERE sha256 = :sha256",
            "DELETE FROM content_places WHERE sha256 = :sha256",
            copy=COPY, uri=URI, sha256=person.sha256)  # fmt: skip
    forget(database, Picture(frozenset({URI, COPY}), frozenset({person.sha256}), frozenset(), 0))
    (found,) = rows(database, "SELECT first_flagged_uri AS first, last_flagged_uri AS last FROM contents "
                    "WHERE sha256 = :sha256", sha256=person.sha256)  # fmt: skip
    assert found == {name: f"forgotten:{sha256_of(database, uri)}" for name, uri in (("first", COPY), ("last", URI))}
