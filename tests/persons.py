"""A person whose picture is in a database, in all the tables that can name it, for tests of forgetting."""

import subprocess
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from producers import reviews
from producers.forgetting import Picture, find_picture, forget
from producers.scans import Listing, start_scan
from tests.integration.test_scans import Archive
from worker.database import Database

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


def sha256_of(database: Database, uri: str) -> str:
    (found,) = rows(database, "SELECT encode(sha256(convert_to(:uri, 'UTF8')), 'hex') AS found", uri=uri)
    return str(found["found"])
