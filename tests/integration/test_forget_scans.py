"""What scans say about a picture that is forgotten, and what happens if one names it again."""

import pytest

from producers.forgetting import Picture, find_picture, forget, is_named_again
from producers.scans import Listing, repair, start_scan
from tests.integration.test_scans import Archive, png
from tests.persons import COPY, SECRET, URI, Person, dump, forgotten, rows, run_sql, sha256_of
from tests.processes import fakesweep
from worker.database import Database
from worker.errors import ScanStateError


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
    assert (left["uri"], left["outcome"]) == (f"forgotten:{sha256_of(database, URI)}", "judged")
    failures = rows(database, "SELECT uri FROM replaced_failures")
    assert failures == ([] if outcome == "judged" else [{"uri": left["uri"]}])
    assert SECRET not in dump(database_url)


def test_a_scan_of_one_picture_does_not_name_it(database: Database) -> None:
    person = Person(database)
    forgotten(database, URI)
    pseudonym = f"forgotten:{sha256_of(database, URI)}"
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
