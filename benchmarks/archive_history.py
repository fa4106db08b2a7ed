"""For benchmarks: fills a database by SQL as it is after weeks of nightly scans, with findings, contents, reviews."""

import importlib
import time
from dataclasses import dataclass

import psycopg

_MIGRATION = "migrations.versions.0005_what_dashboards_read"
_LATER_MIGRATION = "migrations.versions.0009_cheaper_to_keep_and_to_ask"

# Every second content is fake or uncertain. The contents appear again and again, at other places.
_VERDICTS = """
INSERT INTO verdicts (sha256, detector_id, uri, width, height, explain, answer, score, completion, explanation,
                      contradicts, prompt_tokens, completion_tokens, latency_ms, created_at)
SELECT md5(n::text) || md5('x' || n), {detector}, 's3://bucket-' || n % 5 || '/' || lpad(n::text, 10, '0'), 1024, 768,
       'flagged', CASE WHEN n % 2 = 0 THEN 'fake' ELSE 'real' END,
       CASE WHEN n % 2 = 0 THEN 0.401 + 0.599 * (n / 2 % 997) / 997.0 ELSE 0.4 * (n % 991) / 991.0 END,
       'This is an image.', 'The light falls from two sides.', false, 590, 7, 20,
       now() - interval '{scans} days'
FROM generate_series(0, {contents} - 1) n
"""
_FINDINGS = """
INSERT INTO "findings_{partition}" (partition, scan_id, uri, outcome, verdict, score, verdict_id, reason, etag, sha256,
                                    width, height, attempts, decided_at)
SELECT '{partition}', '{scan}', 's3://bucket-' || n % 5 || '/' || lpad(n::text, 10, '0'),
       CASE WHEN n % 97 = 0 THEN 'failed' ELSE 'judged' END,
       CASE WHEN n % 97 = 0 THEN NULL WHEN v.score >= 0.6 THEN 'fake' WHEN v.score > 0.4 THEN 'uncertain'
            ELSE 'real' END,
       CASE WHEN n % 97 <> 0 THEN v.score END, CASE WHEN n % 97 <> 0 THEN v.id END,
       CASE WHEN n % 97 = 0 THEN 'not_found' END, v.sha256, v.sha256, 1024, 768, 1,
       {at} + interval '6 hours' * ((n - {first})::float / {size})
FROM generate_series({first}, {first} + {size} - 1) n
JOIN verdicts v ON v.id = {first_verdict} + n % {contents}
"""
_SCAN = """
INSERT INTO scans (id, kind, name, source, policy, partition, status, listed, skipped, judged, reused, failed, fake,
                   uncertain, real, schedule, due_at, created_at, finished_at, counted_at, skipped_by)
VALUES (gen_random_uuid(), '{kind}', 'photos', 's3://bucket-0/',
        '{{"explain": "flagged", "fake_from": 0.6, "real_to": 0.4}}', '{partition}', 'done', {size}, 100,
        {size}, 0, 0, 0, 0, 0, 'photos', {at}, {at}, {at} + interval '6 hours', {at} + interval '6 hours',
        '{{"suffix": 100}}')
RETURNING id
"""
_REVIEWS = """
INSERT INTO reviewers (name) SELECT 'r' || n FROM generate_series(0, 6) n;
INSERT INTO reviews (scan_id, uri, sha256, verdict_id, detector_id, verdict, score, statement, decision, kind, reviewer,
                     created_at)
SELECT scan_id, uri, sha256, verdict_id, detector_id, verdict, score,
       CASE WHEN random() < 0.9 THEN 'fake' ELSE 'real' END, 'confirmed', 'first', 'r' || (random() * 5)::int,
       first_at + interval '1 hour'
FROM (SELECT * FROM contents WHERE verdict <> 'real' AND NOT superseded ORDER BY sha256 LIMIT {reviews}) chosen;
INSERT INTO reviews (scan_id, uri, sha256, verdict_id, detector_id, verdict, score, statement, decision, kind, reviewer,
                     created_at)
SELECT scan_id, uri, sha256, verdict_id, detector_id, verdict, score,
       CASE statement WHEN 'fake' THEN 'real' ELSE 'fake' END, 'confirmed', 'second', 'r6',
       created_at + interval '1 hour'
FROM reviews WHERE id % 20 = 0;
INSERT INTO content_reviews
SELECT counted.* FROM (SELECT DISTINCT sha256 FROM reviews) AS reviewed, counted_reviews(reviewed.sha256) AS counted;
UPDATE contents c SET statement = s.statement, reviewed_at = s.reviewed_at
FROM review_status s WHERE s.sha256 = c.sha256;
INSERT INTO reviewed_verdicts (sha256, detector_id, verdict, first_reviewed_at, week, statement)
SELECT r.sha256, r.detector_id, r.verdict, r.created_at, week_of(r.created_at), s.statement
FROM reviews r JOIN content_reviews s USING (sha256) WHERE r.kind = 'first';
"""


@dataclass(frozen=True)
class Size:
    """The size of the archive. Each scan has `findings / scans`, and every tenth scan is live.

    Half of the `contents` are not real. A twentieth of the `reviews` is contradicted by another review.
    """

    findings: int
    contents: int
    scans: int
    reviews: int


def fill(url: str, detector_id: int, size: Size) -> dict[str, float]:
    """Fills a migrated database. Returns the seconds that the migration's way of counting took."""
    each = size.findings // size.scans
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # the counts are made at the end, all at once
        connection.execute("SET work_mem = '256MB'")
        _run(connection, _VERDICTS.format(detector=detector_id, scans=size.scans, contents=size.contents))
        connection.execute("ANALYZE verdicts")
        (first_verdict,) = connection.execute("SELECT min(id) FROM verdicts").fetchone() or (0,)
        for number in range(size.scans):
            at = f"date_trunc('day', now()) - interval '{size.scans - number} days' + interval '2 hours'"
            scan, partition = _scan(connection, number, each, at)
            rows = {"partition": partition, "scan": scan, "first": number * each, "size": each, "at": at}
            _run(connection, _FINDINGS.format(**rows, first_verdict=first_verdict, contents=size.contents))
        connection.execute("ANALYZE findings")
        migration = importlib.import_module(_MIGRATION)
        started = time.perf_counter()
        _run(connection, migration._COUNT.format(sign="", rows="findings", only=""))  # noqa: SLF001 - the same SQL
        _run(connection, migration._REMEMBER_ALL)  # noqa: SLF001 - the same SQL
        _run(connection, importlib.import_module(_LATER_MIGRATION)._FLAGGED_SO_FAR)  # noqa: SLF001 - the same SQL
        seconds = time.perf_counter() - started
        _run(connection, _REVIEWS.format(reviews=size.reviews))
        connection.execute("VACUUM ANALYZE")
    return {"counting_s": round(seconds, 1)}


def _scan(connection: psycopg.Connection[tuple[object, ...]], number: int, size: int, at: str) -> tuple[object, str]:
    """Adds a nightly scan that is done, with an empty partition."""
    partition = f"bench_{number:03d}"
    kind = "live" if number % 10 == 9 else "scan"
    row = connection.execute(_SCAN.format(partition=partition, size=size, at=at, kind=kind).encode()).fetchone()
    table = f'"findings_{partition}"'
    _run(connection, f"CREATE TABLE {table} (LIKE findings INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
    _run(connection, f"ALTER TABLE findings ATTACH PARTITION {table} FOR VALUES IN ('{partition}')")
    return row[0] if row else None, partition


def _run(connection: psycopg.Connection[tuple[object, ...]], statement: str) -> None:
    connection.execute(statement.encode())
