"""Adds to the archive of `archive_history` what a review desk needs: cases, hashes, and photos that can be opened."""

import hashlib
import time
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from benchmarks.large_jpeg import SIZES, photo

# There are cases of a thousand contents each, and a rare bucket with a few contents of the largest scan.
_NAME = """
INSERT INTO content_external_ids
SELECT 'case ' || row_number() OVER () / 1000, sha256 FROM contents;
INSERT INTO content_places
SELECT c.sha256, c.detector_id, 's3://rare/' || c.sha256 FROM contents c
WHERE c.verdict <> 'real' AND c.statement IS NULL AND c.score < 0.7
  AND c.scan_id = (SELECT scan_id FROM contents GROUP BY 1 ORDER BY count(*) DESC LIMIT 1)
ORDER BY c.score LIMIT 600;
UPDATE contents c SET uri = 's3://rare/' || sha256
WHERE EXISTS (SELECT FROM content_places p WHERE p.sha256 = c.sha256 AND p.uri = 's3://rare/' || c.sha256);
INSERT INTO findings (partition, scan_id, uri, outcome, verdict, score, verdict_id, etag, sha256, width, height,
                      attempts, decided_at)
SELECT s.partition, c.scan_id, c.uri, 'judged', c.verdict, c.score, c.verdict_id, c.sha256, c.sha256, 1024, 768, 1,
       c.last_at
FROM contents c JOIN scans s ON s.id = c.scan_id WHERE c.uri LIKE 's3://rare/%';
"""
_HASHES = """
INSERT INTO content_hashes (sha256, pdq, quality, in_question)
SELECT sha256, set_bit(set_bit(('x' || md5((n / 10)::text) || md5('x' || n / 10))::bit(256), (n % 256)::int, 1),
                       (7 * n % 256)::int, 0), 100, true
FROM (SELECT sha256, row_number() OVER () AS n FROM contents) numbered
"""
"""The contents form groups of ten near duplicates."""
_INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'content_hashes' AND indexname LIKE '%_word_%'"
_PHOTO = """
WITH scan AS (SELECT id, partition FROM scans WHERE dropped_at IS NULL ORDER BY created_at DESC LIMIT 1),
verdict AS (
    INSERT INTO verdicts (sha256, detector_id, uri, width, height, explain, answer, score, completion, explanation,
                          contradicts, prompt_tokens, completion_tokens, latency_ms)
    SELECT %(sha256)s, min(id), %(uri)s, 4000, 3000, 'flagged', 'fake', 1.0, 'This is a fake image.',
           'The light falls from two sides.', false, 590, 7, 20
    FROM detectors
    RETURNING id, sha256, uri, width, height, score
)
INSERT INTO findings (partition, scan_id, uri, outcome, verdict, score, verdict_id, etag, sha256, width, height,
                      attempts, decided_at)
SELECT s.partition, s.id, v.uri, 'judged', 'fake', v.score, v.id, v.sha256, v.sha256, v.width, v.height, 1, now()
FROM scan s, verdict v
"""
_MATCHING = """
SELECT (SELECT scan_id FROM contents WHERE uri LIKE 's3://rare/%' LIMIT 1) AS scan,
       (SELECT e.external_id FROM content_external_ids e JOIN contents c USING (sha256)
        WHERE c.verdict <> 'real' AND c.statement IS NULL AND NOT c.superseded
        GROUP BY 1 HAVING count(*) > 500 ORDER BY 1 LIMIT 1) AS case,
       (SELECT min(detector_id) FROM contents) AS detector
"""
_SECOND_LOOKS = """
INSERT INTO second_looks (sha256, first_reviewer)
SELECT r.sha256, r.reviewer FROM reviews r JOIN content_reviews s USING (sha256)
WHERE r.reviewer = 'r2' AND r.kind = 'first' AND s.statement IS NOT NULL LIMIT 5000 ON CONFLICT DO NOTHING
"""


_LEFT = """
TRUNCATE second_looks, claims, skips;
UPDATE contents SET superseded = true WHERE uri LIKE 'file://%' AND score = 1 AND statement IS NULL;
"""
"""Removes what an earlier run left in a database that is kept."""


def furnish(url: str) -> None:
    """Gives the contents external ids, a rare bucket and hashes. Does nothing if they are there already."""
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SELECT FROM content_hashes LIMIT 1").fetchone() is not None:
            return
        connection.execute("SET session_replication_role = replica")
        # Building the indexes after the rows are inserted takes a tenth of the time.
        indexes = connection.execute(_INDEXES).fetchall()
        connection.execute("".join(f"DROP INDEX {name};" for name, _ in indexes).encode())
        connection.execute(_HASHES)
        for _, definition in indexes:
            connection.execute(definition.encode())
        connection.execute(_NAME)
        connection.execute("VACUUM ANALYZE")


def matching(url: str) -> dict[str, str]:
    """Returns values of filters that many waiting contents match: `scan`, `case`, `detector`."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        found = connection.execute(_MATCHING).fetchone() or {}
    return {name: str(value) for name, value in found.items()}


def lay_out(url: str, folder: Path, count: int) -> None:
    """Puts photos of 12 megapixels into a folder, with findings that are more severe than all others."""
    first = int(time.time()) % 10**6
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_LEFT)
        for number in range(first, first + count):
            path = folder / f"{number}.jpg"
            path.write_bytes(data := photo(number, SIZES["12"]))
            connection.execute(_PHOTO, {"sha256": hashlib.sha256(data).hexdigest(), "uri": path.as_uri()})


def want_second_looks(url: str) -> None:
    """Makes five thousand contents that r2 has decided wait for a second look by somebody else."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_SECOND_LOOKS)
