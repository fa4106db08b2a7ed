"""Scans that record what changed; counts of findings by the hour; contents with a history.

Triggers on `findings` keep the counts and the history, so they are exact, no matter who writes a finding. Findings that
exist already are counted here. Until then, nobody can write findings; workers wait and try again.

Update workers before producers: a worker of the previous release never finishes a scan that has unchanged images.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BUCKET = """
CREATE FUNCTION bucket_of(uri text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN uri LIKE 's3://%' THEN split_part(uri, '/', 3) ELSE 'file' END
$$;
"""

# `shard` differs between connections, so that two of them seldom wait for the same row. Only the sum has a meaning.
_COUNT = """
INSERT INTO findings_hourly AS kept
    (hour, scan_id, bucket, detector_id, outcome, verdict, reason, score_bin, shard, findings)
SELECT date_trunc('hour', f.decided_at, 'UTC'),
       CASE WHEN s.kind = 'live' THEN '00000000-0000-0000-0000-000000000000'::uuid ELSE f.scan_id END,
       bucket_of(f.uri), coalesce(v.detector_id, 0), f.outcome, coalesce(f.verdict, ''), coalesce(f.reason, ''),
       CASE WHEN f.score IS NULL THEN -1 ELSE least(floor(f.score * 20), 19) END::smallint,
       (pg_backend_pid() & 15)::smallint, {sign}count(*)
FROM {rows} f
LEFT JOIN scans s ON s.id = f.scan_id
LEFT JOIN verdicts v ON v.id = f.verdict_id
{only}
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
ON CONFLICT (hour, scan_id, bucket, detector_id, outcome, verdict, reason, score_bin, shard)
DO UPDATE SET findings = kept.findings + excluded.findings;
"""

# A finding that retention deletes still counts. It is recognised by its scan, which is marked as dropped first.
_NOT_DROPPED = "WHERE s.dropped_at IS NULL"

# The newest finding of a content decides. A verdict of another detector marks earlier ones as superseded.
_REMEMBER = """
UPDATE contents kept
SET superseded = kept.detector_id <> f.detector_id,
    verdict = CASE WHEN kept.detector_id = f.detector_id THEN f.verdict ELSE kept.verdict END,
    score = CASE WHEN kept.detector_id = f.detector_id THEN f.score ELSE kept.score END
FROM (SELECT f.sha256, v.detector_id, f.verdict, f.score FROM {rows} f JOIN verdicts v ON v.id = f.verdict_id) f
WHERE kept.sha256 = f.sha256
  AND (kept.detector_id <> f.detector_id AND NOT kept.superseded
       OR kept.detector_id = f.detector_id AND f.verdict = 'real' AND (kept.verdict <> 'real' OR kept.superseded));
WITH attention AS (
    SELECT f.sha256, v.detector_id, f.uri, f.scan_id, f.verdict, f.score, f.verdict_id, f.decided_at
    FROM {rows} f JOIN verdicts v ON v.id = f.verdict_id
    WHERE f.verdict <> 'real'
), place AS (
    INSERT INTO content_places (sha256, detector_id, uri)
    SELECT DISTINCT sha256, detector_id, uri FROM attention ORDER BY sha256, detector_id, uri
    ON CONFLICT DO NOTHING
    RETURNING sha256, detector_id
), new_places AS (
    SELECT sha256, detector_id, count(*) AS places FROM place GROUP BY sha256, detector_id
), newest AS (
    SELECT DISTINCT ON (sha256, detector_id) *, verdict = 'fake' AS flagged
    FROM attention
    ORDER BY sha256, detector_id, decided_at DESC, verdict = 'fake' DESC, uri
)
INSERT INTO contents AS kept
    (sha256, detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places,
     first_flagged_at, first_flagged_uri, first_flagged_scan_id,
     last_flagged_at, last_flagged_uri, last_flagged_scan_id)
SELECT sha256, detector_id, verdict, score, verdict_id, uri, scan_id, decided_at, decided_at, coalesce(places, 0),
       CASE WHEN flagged THEN decided_at END, CASE WHEN flagged THEN uri END, CASE WHEN flagged THEN scan_id END,
       CASE WHEN flagged THEN decided_at END, CASE WHEN flagged THEN uri END, CASE WHEN flagged THEN scan_id END
FROM newest LEFT JOIN new_places USING (sha256, detector_id)
ORDER BY sha256, detector_id
ON CONFLICT (sha256, detector_id) DO UPDATE
SET verdict = excluded.verdict, score = excluded.score, verdict_id = excluded.verdict_id, uri = excluded.uri,
    scan_id = excluded.scan_id, last_at = excluded.last_at, superseded = false,
    places = kept.places + excluded.places,
    first_flagged_at = coalesce(kept.first_flagged_at, excluded.first_flagged_at),
    first_flagged_uri = coalesce(kept.first_flagged_uri, excluded.first_flagged_uri),
    first_flagged_scan_id = coalesce(kept.first_flagged_scan_id, excluded.first_flagged_scan_id),
    last_flagged_at = coalesce(excluded.last_flagged_at, kept.last_flagged_at),
    last_flagged_uri = coalesce(excluded.last_flagged_uri, kept.last_flagged_uri),
    last_flagged_scan_id = coalesce(excluded.last_flagged_scan_id, kept.last_flagged_scan_id);
"""

# SECURITY DEFINER, so that a role that may write findings need not be allowed to write the counts.
_FUNCTION = """
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
{body}
RETURN NULL;
END $$;
"""

_TRIGGERS = """
CREATE TRIGGER findings_added AFTER INSERT ON findings REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION findings_added();
CREATE TRIGGER findings_removed AFTER DELETE ON findings REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION findings_removed();
"""

_REMEMBER_ALL = """
INSERT INTO content_places (sha256, detector_id, uri)
SELECT DISTINCT f.sha256, v.detector_id, f.uri FROM findings f JOIN verdicts v ON v.id = f.verdict_id
WHERE f.verdict <> 'real';
WITH told AS (
    SELECT f.sha256, v.detector_id, f.uri, f.scan_id, f.verdict, f.score, f.verdict_id, f.decided_at
    FROM findings f JOIN verdicts v ON v.id = f.verdict_id
    WHERE EXISTS (SELECT FROM content_places p WHERE p.sha256 = f.sha256)
), last AS (
    SELECT DISTINCT ON (sha256) sha256, detector_id FROM told ORDER BY sha256, decided_at DESC
), stands AS (
    SELECT DISTINCT ON (sha256, detector_id) sha256, detector_id, verdict, score
    FROM told ORDER BY sha256, detector_id, decided_at DESC
), newest AS (
    SELECT DISTINCT ON (sha256, detector_id) sha256, detector_id, verdict_id, uri, scan_id
    FROM told WHERE verdict <> 'real' ORDER BY sha256, detector_id, decided_at DESC
), times AS (
    SELECT sha256, detector_id, min(decided_at) AS first_at, max(decided_at) AS last_at, count(DISTINCT uri) AS places
    FROM told WHERE verdict <> 'real' GROUP BY sha256, detector_id
), first_flagged AS (
    SELECT DISTINCT ON (sha256, detector_id) sha256, detector_id, decided_at, uri, scan_id
    FROM told WHERE verdict = 'fake' ORDER BY sha256, detector_id, decided_at
), last_flagged AS (
    SELECT DISTINCT ON (sha256, detector_id) sha256, detector_id, decided_at, uri, scan_id
    FROM told WHERE verdict = 'fake' ORDER BY sha256, detector_id, decided_at DESC
)
INSERT INTO contents
    (sha256, detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places, superseded,
     first_flagged_at, first_flagged_uri, first_flagged_scan_id,
     last_flagged_at, last_flagged_uri, last_flagged_scan_id)
SELECT newest.sha256, newest.detector_id, verdict, score, verdict_id, newest.uri, newest.scan_id, first_at, last_at,
       places, last.detector_id <> newest.detector_id,
       first_flagged.decided_at, first_flagged.uri, first_flagged.scan_id,
       last_flagged.decided_at, last_flagged.uri, last_flagged.scan_id
FROM newest
JOIN stands USING (sha256, detector_id)
JOIN times USING (sha256, detector_id)
LEFT JOIN first_flagged USING (sha256, detector_id)
LEFT JOIN last_flagged USING (sha256, detector_id)
JOIN last ON last.sha256 = newest.sha256;
"""

_VIEWS = """
CREATE VIEW findings_by_hour AS
SELECT h.hour, CASE WHEN s.id IS NULL THEN 'live' ELSE 'scan' END AS kind, s.id AS scan_id, s.name AS scan_name,
       s.schedule, h.bucket, nullif(h.detector_id, 0) AS detector_id, d.name AS detector_name, h.outcome,
       nullif(h.verdict, '') AS verdict, nullif(h.reason, '') AS reason,
       nullif(h.score_bin, -1)::float / 20 AS score_from, sum(h.findings)::bigint AS findings
FROM findings_hourly h
LEFT JOIN scans s ON s.id = h.scan_id
LEFT JOIN detectors d ON d.id = h.detector_id
GROUP BY h.hour, s.id, h.bucket, h.detector_id, d.name, h.outcome, h.verdict, h.reason, h.score_bin
HAVING sum(h.findings) <> 0;
CREATE VIEW failures AS
SELECT scan_id, kind, scan_name, schedule, bucket, reason, min(hour) AS first_hour, max(hour) AS last_hour,
       sum(findings)::bigint AS findings
FROM findings_by_hour
WHERE outcome = 'failed'
GROUP BY scan_id, kind, scan_name, schedule, bucket, reason;
CREATE VIEW contents_flagged AS
SELECT c.sha256, c.detector_id, d.name AS detector_name, c.verdict, c.score, c.places,
       c.first_flagged_at, c.first_flagged_uri, c.first_flagged_scan_id,
       c.last_flagged_at, c.last_flagged_uri, c.last_flagged_scan_id, c.superseded, c.statement, c.reviewed_at
FROM contents c
JOIN detectors d ON d.id = c.detector_id
WHERE c.first_flagged_at IS NOT NULL;
CREATE VIEW review_backlog AS
SELECT waiting.contents, oldest.at AS oldest_at, coalesce(extract(epoch FROM now() - oldest.at)::float, 0) AS oldest_s
FROM (SELECT count(*) AS contents FROM contents
      WHERE verdict <> 'real' AND statement IS NULL AND NOT superseded) AS waiting,
     (SELECT min(first_at) AS at FROM contents
      WHERE verdict <> 'real' AND statement IS NULL AND NOT superseded) AS oldest;
CREATE VIEW queue_age AS
SELECT CASE kind WHEN 'live' THEN 'moderation.live' ELSE 'moderation.scan' END AS queue, count(*) AS scans,
       sum(listed - judged - reused - unchanged - failed)::bigint AS images, min(created_at) AS oldest_at,
       extract(epoch FROM now() - min(created_at))::float AS oldest_s,
       extract(epoch FROM now() - max(coalesce(counted_at, created_at)))::float AS still_s
FROM scans
WHERE status IN ('listing', 'repairing', 'running') AND listed > judged + reused + unchanged + failed
GROUP BY kind;
"""

# exp() of a number below -745 is an error in Postgres. The rate is that of worker.database.figures.rate.
_RATE = """
CASE WHEN status NOT IN ('listing', 'repairing', 'running') OR counted_at IS NULL THEN 0
     ELSE rate * exp(greatest(-extract(epoch FROM now() - counted_at)::float / 60, -700))
          / (1 - exp(greatest(-greatest(extract(epoch FROM counted_at - created_at)::float, 1) / 60, -700))) END
"""

_PROGRESS = """
CREATE OR REPLACE VIEW scan_progress AS
SELECT id AS scan_id, kind, name, source, status, listed, judged, reused, failed, fake, uncertain, real,
       CASE WHEN listed > 0 THEN decided::float / listed ELSE 1 END AS share_done,
       CASE WHEN judged + reused > 0 THEN fake::float / (judged + reused) END AS share_flagged,
       created_at, finished_at,
       CASE WHEN judged + reused + failed > 0 THEN failed::float / (judged + reused + failed) END AS share_failed,
       skipped, note, schedule, due_at, dropped_at{more}
FROM scans CROSS JOIN LATERAL (SELECT {decided} AS decided{rate}) AS counted
"""
_MORE = """,
       record, unchanged, skipped_by, rate_now AS images_per_s, listed - decided AS images_left,
       CASE WHEN rate_now > 0.01 THEN (listed - decided) / rate_now END AS seconds_left, counted_at AS last_decided_at
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Locks the tables in the same order as workers. Otherwise, both could wait for each other for ever.
    op.execute("LOCK TABLE objects, scans IN ACCESS EXCLUSIVE MODE")
    op.execute("LOCK TABLE findings IN SHARE ROW EXCLUSIVE MODE")
    op.add_column("objects", sa.Column("verdict", sa.String(length=16), nullable=True))
    op.add_column("objects", sa.Column("rule", sa.BigInteger(), nullable=True))
    op.add_column("scans", sa.Column("record", sa.String(length=8), server_default="all", nullable=False))
    op.add_column("scans", sa.Column("unchanged", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "ix_scans_active", "scans", ["kind", "created_at"],
        postgresql_where=sa.text("status IN ('listing', 'repairing', 'running')"),
    )  # fmt: skip
    op.create_check_constraint(op.f("ck_scans_record"), "scans", "record IN ('all', 'changes')")
    _create_tables()
    op.execute(_BUCKET)
    added = _COUNT.format(sign="", rows="added", only="") + _REMEMBER.format(rows="added")
    removed = _COUNT.format(sign="-", rows="removed", only=_NOT_DROPPED)
    op.execute(_FUNCTION.format(name="findings_added", body=added))
    op.execute(_FUNCTION.format(name="findings_removed", body=removed))
    op.execute(_TRIGGERS)
    op.execute(_COUNT.format(sign="", rows="findings", only=""))
    op.execute(_REMEMBER_ALL)
    op.execute(_VIEWS)
    decided = "judged + reused + unchanged + failed"
    op.execute(_PROGRESS.format(more=_MORE, decided=decided, rate=f", {_RATE} AS rate_now"))


def _create_tables() -> None:
    op.create_table(
        "findings_hourly",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("detector_id", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("score_bin", sa.SmallInteger(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("findings", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "hour", "scan_id", "bucket", "detector_id", "outcome", "verdict", "reason", "score_bin", "shard",
            name=op.f("pk_findings_hourly"),
        ),
    )  # fmt: skip
    op.create_table(
        "contents",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("detector_id", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("verdict_id", sa.BigInteger(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("places", sa.BigInteger(), nullable=False),
        sa.Column("first_flagged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_flagged_uri", sa.Text(), nullable=True),
        sa.Column("first_flagged_scan_id", sa.Uuid(), nullable=True),
        sa.Column("last_flagged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_flagged_uri", sa.Text(), nullable=True),
        sa.Column("last_flagged_scan_id", sa.Uuid(), nullable=True),
        sa.Column("superseded", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("statement", sa.String(length=16), nullable=True),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("sha256", "detector_id", name=op.f("pk_contents")),
    )
    op.create_index(
        "ix_contents_to_review", "contents", [sa.text("score DESC NULLS LAST"), "first_at"],
        postgresql_where=sa.text("verdict <> 'real' AND statement IS NULL AND NOT superseded"),
    )  # fmt: skip
    op.create_index(
        "ix_contents_waiting", "contents", ["first_at"],
        postgresql_where=sa.text("verdict <> 'real' AND statement IS NULL AND NOT superseded"),
    )  # fmt: skip
    op.create_index(
        "ix_contents_places", "contents", [sa.text("places DESC"), sa.text("last_flagged_at DESC")],
        postgresql_where=sa.text("first_flagged_at IS NOT NULL"),
    )  # fmt: skip
    op.create_index(op.f("ix_contents_first_flagged_at"), "contents", ["first_flagged_at"])
    op.create_table(
        "content_places",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("detector_id", sa.BigInteger(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "detector_id", "uri", name=op.f("pk_content_places")),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE objects, scans, findings IN ACCESS EXCLUSIVE MODE")
    for view in ("scan_progress", "queue_age", "review_backlog", "contents_flagged", "failures", "findings_by_hour"):
        op.execute(f"DROP VIEW {view}")
    for name in ("findings_added", "findings_removed"):
        op.execute(f"DROP TRIGGER {name} ON findings")
        op.execute(f"DROP FUNCTION {name}")
    for table in ("content_places", "contents", "findings_hourly"):
        op.drop_table(table)
    op.execute("DROP FUNCTION bucket_of")
    op.execute("UPDATE scans SET listed = listed - unchanged WHERE unchanged > 0")
    op.drop_index("ix_scans_active", "scans")
    op.drop_column("scans", "unchanged")
    op.drop_column("scans", "record")
    op.execute(_PROGRESS.format(more="", decided="judged + reused + failed", rate=""))
    op.drop_column("objects", "rule")
    op.drop_column("objects", "verdict")
