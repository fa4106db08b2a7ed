"""A person's picture is forgotten: nothing in the database points to it any more, and what was decided stays."""

import subprocess
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from producers import reviews, submissions
from producers.dsa.complaints import decisions_about
from producers.forgetting import Picture, find_picture, forget, image_at, is_named_again
from producers.reporting import results
from producers.scans import Listing, repair, start_scan
from producers.testing import InMemoryPublisher
from tests.integration.test_scans import Archive, png
from tests.processes import fakesweep
from tests.roles import home, with_all_logins
from worker.database import Database, connect
from worker.errors import ImageError, NoSuchContentError, Reason, ScanStateError

URI = "s3://b/people/anna-smith é.png"
COPY = "s3://b/people/copy-of-anna.png"
SECRET = "anna-smith"
WORDS = (SECRET, "anna", "7001-post", "a note about her", "her left hand", "her own prompt", "01" * 40)
"""What points to the picture: its name, its external id, texts about it, its perceptual hash."""

_MORE = (
    # Another detector judged the picture, and explained it.
    """INSERT INTO verdicts (sha256, detector_id, uri, width, height, explain, answer, score, completion, explanation,
           contradicts, prompt_tokens, completion_tokens, latency_ms)
       SELECT sha256, detector_id, uri, width, height, 'all', 'fake', 0.8, 'This is a fake image: her left hand',
           'her left hand', false, 1, 1, 1 FROM verdicts WHERE sha256 = :sha256 LIMIT 1""",
    """INSERT INTO provenance (sha256, revision, c2pa, signer, says)
       VALUES (:sha256, 'r', 'valid', 'anna', '{"prompt": "her own prompt"}')""",
    """INSERT INTO content_hashes (sha256, pdq, quality) VALUES (:sha256, repeat('01', 128)::bit(256), 100)
       ON CONFLICT (sha256) DO UPDATE SET pdq = excluded.pdq""",
    "UPDATE content_external_ids SET external_id = external_id || ' 7001-post' WHERE sha256 = :sha256",
    "UPDATE findings SET external_id = external_id || ' 7001-post' WHERE sha256 = :sha256",
    """INSERT INTO reviews (scan_id, uri, sha256, statement, reviewer, note)
       VALUES (:scan, :uri, :sha256, 'fake', 'heron', 'a note about her')""",
    "INSERT INTO claims (sha256, id, reviewer, until) VALUES (:sha256, gen_random_uuid(), 'heron', now())",
    "INSERT INTO looks (sha256, reviewer, until) VALUES (:sha256, 'heron', now())",
    "INSERT INTO skips (sha256, reviewer, until) VALUES (:sha256, 'heron', now())",
    "INSERT INTO second_looks (sha256, first_reviewer) VALUES (:sha256, 'heron')",
    "INSERT INTO suspects (scan_id, uri, tries) VALUES (:scan, :uri, 1)",
    "INSERT INTO repaired (scan_id, uri) VALUES (:scan, :uri)",
    """INSERT INTO unpublished (scan_id, messages)
       VALUES (:scan, jsonb_build_array(jsonb_build_object('uri', CAST(:uri AS text))))""",
    """INSERT INTO replaced_failures (scan_id, uri, reason, detail, attempts, decided_at)
       VALUES (:scan, :uri, 'corrupt', 'anna', 1, now())""",
    """UPDATE scans SET cursor = '{"after": "people/anna-smith é.png"}' WHERE id = :scan""",
    # Webhooks about the picture: one at a place that nothing else names, and one whose receiver repeated the id.
    """INSERT INTO outbox (endpoint_id, kind, subject, data)
       SELECT id, 'review.decided', :sha256,
           jsonb_build_object('uri', 's3://b/anna.png', 'sha256', CAST(:sha256 AS text)) FROM webhook_endpoints""",
    "UPDATE outbox SET answer = '7001-post' WHERE data->>'uri' = :uri",
    # A webhook about a scan of this one picture waits. The scan has no name, so it has that of its source.
    """INSERT INTO outbox (endpoint_id, kind, subject, data)
       SELECT e.id, 'scan.done', s.id, jsonb_build_object('scan_id', s.id, 'name', s.name)
       FROM webhook_endpoints e, scans s WHERE s.source = :uri""",
)
_ENDPOINT = """
INSERT INTO webhook_endpoints (name, url, kinds, secret)
VALUES ('app', 'https://example.org', '{finding.flagged,review.decided,scan.done}', 'secret')
"""


def run_sql(database: Database, *statements: str, **values: Any) -> None:
    with database.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), values)


def rows(database: Database, query: str, **values: Any) -> Sequence[dict[str, Any]]:
    with database.connect() as connection:
        return [dict(row) for row in connection.execute(text(query), values).mappings()]


def dump(url: str) -> str:
    """The whole database as text."""
    done = subprocess.run(
        ["pg_dump", "--data-only", "--dbname", url], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pointing(url: str) -> list[str]:
    """The words that the dump has. Text is searched as it is, and as JSON writes it."""
    found = dump(url)
    return [word for word in WORDS if word in found]


class Person:
    """An archive with the picture of a person, which two scans found, and which people decided about."""

    def __init__(self, database: Database, *, copies: Sequence[str] = ()) -> None:
        self.archive = Archive(database)
        self.archive.fill(4)
        reviews.add_reviewer(database, "heron")
        run_sql(database, _ENDPOINT)
        picture = self.archive.images["s3://b/00000.png"]
        del self.archive.images["s3://b/00000.png"]
        self.archive.images |= dict.fromkeys((URI, *copies), picture)
        self.scans = [UUID(self.archive.sweep()["scan"]) for _ in range(2)]
        (found,) = rows(database, "SELECT DISTINCT sha256 FROM findings WHERE uri = :uri", uri=URI)
        self.sha256 = str(found["sha256"])
        alone = start_scan(database, Listing(sources=(URI,))).id
        several = start_scan(database, Listing(sources=("s3://b/1", URI, "s3://b/3", "s3://b/4"))).id
        run_sql(database, "UPDATE scans SET status = 'done' WHERE source LIKE '%anna%'")
        self.alone, self.several = alone, several
        run_sql(database, *_MORE, sha256=self.sha256, scan=self.scans[0], uri=URI)


def forgotten(database: Database, named: str) -> Picture:
    picture = find_picture(database, named)
    forget(database, picture)
    return picture


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
    assert place == f"forgotten:{_sha256(database, URI)}"
    assert event["details"]["contents"] == [person.sha256]
    # A complaint finds the decision by the puid, by the SHA-256, and by the uri that only the person knows.
    for named in (decision["puid"], person.sha256, URI):
        assert decisions_about(database, named) == [decision]


def _sha256(database: Database, uri: str) -> str:
    (found,) = rows(database, "SELECT encode(sha256(convert_to(:uri, 'UTF8')), 'hex') AS found", uri=uri)
    return str(found["found"])


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


def test_a_scan_at_work_that_names_the_picture_is_said(database: Database, database_url: str) -> None:
    person = Person(database)
    active = person.archive.start()
    run_sql(database, "INSERT INTO suspects (scan_id, uri, tries) VALUES (:scan, :uri, 1)", scan=active, uri=URI)
    done = fakesweep("forget", URI, "--yes", environment={"DATABASE_URL": database_url})
    assert done.returncode == 1
    assert f"scan {active} is still listing and still names the picture" in done.stderr
    run_sql(database, "UPDATE scans SET status = 'cancelled' WHERE id = :scan", scan=active)
    assert SECRET in dump(database_url)
    forget(database, Picture(frozenset({URI}), frozenset(), frozenset(), 0))
    assert SECRET not in dump(database_url)


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


@pytest.mark.parametrize("outcome", ["judged", "failed"])
def test_what_came_again_is_forgotten_again(database: Database, database_url: str, outcome: str) -> None:
    """A message may be saved again after its picture was forgotten: a redelivery, or a retry that was on its way."""
    archive = Archive(database, etags=False)
    archive.images[URI] = png(5) if outcome == "judged" else b"no image"
    scan = archive.start()
    publisher = archive.publish(scan)
    archive.judge(publisher)
    forgotten(database, URI)
    archive.images[URI] = png(5)
    archive.judge(publisher)
    forgotten(database, URI)
    (left,) = rows(database, "SELECT uri, outcome FROM findings")
    assert (left["uri"], left["outcome"]) == (f"forgotten:{_sha256(database, URI)}", "judged")
    failures = rows(database, "SELECT uri FROM replaced_failures")
    assert failures == ([] if outcome == "judged" else [{"uri": left["uri"]}])
    assert SECRET not in dump(database_url)


def test_a_scan_of_one_picture_does_not_name_it(database: Database) -> None:
    person = Person(database)
    forgotten(database, URI)
    pseudonym = f"forgotten:{_sha256(database, URI)}"
    query = "SELECT name, source, listing->'sources' AS sources FROM scans WHERE id = :id"
    (alone,) = rows(database, query, id=person.alone)
    assert alone == {"name": pseudonym, "source": pseudonym, "sources": [pseudonym]}
    (several,) = rows(database, query, id=person.several)
    text_of = f"s3://b/1 {pseudonym} s3://b/3 …"
    assert several == {"name": text_of, "source": text_of, "sources": ["s3://b/1", pseudonym, "s3://b/3", "s3://b/4"]}
    for scan in (person.alone, person.several):
        with pytest.raises(ScanStateError, match="listed a picture that was forgotten"):
            repair(database, scan)


@pytest.mark.parametrize("sources", [(URI,), ("s3://b/1", "s3://b/2", "s3://b/3", URI)])
def test_a_scan_at_work_on_the_picture_is_said(database: Database, sources: tuple[str, ...]) -> None:
    Person(database)
    active = start_scan(database, Listing(sources=sources)).id
    (held,) = forget(database, find_picture(database, URI)).held_by
    assert held == f"{active} is still listing"
    (listing,) = rows(database, "SELECT listing->'sources' AS sources FROM scans WHERE id = :id", id=active)
    assert listing == {"sources": list(sources)}


@pytest.mark.parametrize(
    ("place", "cursor", "gone"),
    [
        ("file:///photos/a%20b.png", '{"path":["a%20b.png"]}', True),
        ("file:///photos/a%20b.png", '{"open":[[0,"photos/a b.png",null]]}', False),
        ("s3://photos/x/a b.png", '{"open":[[0,"x/a b.png",null]]}', True),
        ("s3://photos/x/1", '{"open":[[0,"y/2021/11",null]]}', False),
        ("s3://photos/x/", '{"open":[[0,"y",null]]}', False),
    ],
)
def test_a_cursor_that_names_the_picture_is_removed(database: Database, place: str, cursor: str, *, gone: bool) -> None:
    scan = start_scan(database, Listing(sources=("s3://b/",))).id
    run_sql(database, "UPDATE scans SET status = 'done', cursor = :cursor WHERE id = :id", cursor=cursor, id=scan)
    forget(database, Picture(frozenset({place}), frozenset(), frozenset(), 0))
    assert rows(database, "SELECT cursor FROM scans") == [{"cursor": None if gone else cursor}]


def test_failures_of_a_content_are_forgotten_by_its_sha256(database: Database, database_url: str) -> None:
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


def test_what_is_written_meanwhile_is_found(database: Database) -> None:
    person = Person(database)
    picture = forgotten(database, URI)
    assert not is_named_again(database, picture)
    person.archive.sweep()
    assert is_named_again(database, picture)


def test_the_same_content_at_another_place_is_found(database: Database) -> None:
    person = Person(database)
    picture = forgotten(database, URI)
    person.archive.images[COPY] = person.archive.images.pop(URI)
    person.archive.sweep()
    assert is_named_again(database, picture)


def test_the_command_says_that_something_was_written_meanwhile(database: Database, database_url: str) -> None:
    Person(database)
    run_sql(database, f"""CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO objects (uri, sha256, size) SELECT '{URI}', sha256, 1 FROM verdicts LIMIT 1;
            RETURN NEW; END $$""",
            "CREATE TRIGGER late AFTER INSERT ON events FOR EACH ROW WHEN (NEW.kind = 'forgotten') "
            "EXECUTE FUNCTION late()")  # fmt: skip
    done = fakesweep("forget", URI, "--yes", environment={"DATABASE_URL": database_url})
    assert done.returncode == 1
    assert "something was written meanwhile: run this again" in done.stderr


def test_first_and_last_places_keep_their_own_pseudonyms(database: Database) -> None:
    person = Person(database, copies=[COPY])
    run_sql(database, "UPDATE contents SET first_flagged_uri = :copy, last_flagged_uri = :uri WHERE sha256 = :sha256",
            "DELETE FROM content_places WHERE sha256 = :sha256",
            copy=COPY, uri=URI, sha256=person.sha256)  # fmt: skip
    forget(database, Picture(frozenset({URI, COPY}), frozenset({person.sha256}), frozenset(), 0))
    (found,) = rows(database, "SELECT first_flagged_uri AS first, last_flagged_uri AS last FROM contents "
                    "WHERE sha256 = :sha256", sha256=person.sha256)  # fmt: skip
    assert found == {name: f"forgotten:{_sha256(database, uri)}" for name, uri in (("first", COPY), ("last", URI))}


CHANGES = (
    "UPDATE verdicts SET explanation = 'x'",
    "SET fakesweep.forgetting = 'yes'; UPDATE verdicts SET uri = forgotten_uri(uri), score = 0",
    "SET fakesweep.forgetting = 'yes'; UPDATE reviews SET uri = forgotten_uri(uri), statement = 'real'",
    "SET fakesweep.forgetting = 'yes'; UPDATE verdicts SET uri = 's3://b/other'",
    "SET fakesweep.forgetting = 'yes'; UPDATE reviews SET statement = 'real', uri = 'forgotten:1'",
    "SET fakesweep.forgetting = 'yes'; UPDATE verdicts SET uri = 'forgotten:1'",
    "SET fakesweep.forgetting = 'yes'; UPDATE verdicts SET uri = forgotten_uri(uri), explanation = 'she drew it'",
    "SET fakesweep.forgetting = 'yes'; UPDATE reviews SET uri = forgotten_uri(uri), note = 'she agreed'",
    "SET fakesweep.forgetting = 'yes'; DELETE FROM reviews",
    "SET fakesweep.forgetting = 'yes'; TRUNCATE reviews CASCADE",
    "SET fakesweep.forgetting = 'yes'; UPDATE events SET kind = 'x'",
)


def test_verdicts_reviews_and_events_are_still_append_only(database: Database, database_url: str) -> None:
    Person(database)
    with psycopg.connect(database_url) as connection:
        for change in CHANGES:
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(change.encode())
            connection.rollback()


@pytest.fixture
def roles(postgres_server_url: str, template: str) -> Iterator[Any]:
    with home(postgres_server_url, template) as made:
        with_all_logins(made)
        yield made


def test_only_the_owner_may_forget(roles: Any) -> None:
    database = connect(roles.url)
    Person(database)
    picture = find_picture(database, URI)
    database.dispose()
    # A login that may change verdicts still cannot say that it forgets a picture.
    roles.sql(f'GRANT SELECT, UPDATE ON verdicts TO "{roles.login("worker")}"')
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        roles.sql(
            "SET fakesweep.forgetting = 'yes'; UPDATE verdicts SET uri = forgotten_uri(uri)", roles.url_of("worker")
        )
    for role in ("worker", "producer", "reviewer", "web", "dashboard"):
        other = connect(roles.url_of(role))
        with pytest.raises((ProgrammingError, DBAPIError), match="permission denied for function forget_pictures"):
            forget(other, picture)
        other.dispose()
    assert SECRET in dump(roles.url)
    owner = connect(roles.url_of("owner"))
    assert forget(owner, find_picture(owner, URI)).rows["findings"] == 2
    owner.dispose()
    assert pointing(roles.url) == []


def test_without_roles_nobody_but_the_owner_may_forget(postgres_server_url: str, template: str) -> None:
    """The right is taken from everybody by the migration, and not only by `fakesweep roles`."""
    with home(postgres_server_url, template) as made:
        said = "SELECT bool_or(has_function_privilege('public', oid, 'EXECUTE')) FROM pg_proc"
        assert made.sql(f"{said} WHERE proname = 'forget_pictures'") == [(False,)]
