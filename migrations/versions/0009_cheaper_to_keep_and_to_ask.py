"""Makes what triggers keep for dashboards cheaper to write and to read.

The triggers on `findings` look up each detector once, by the id of the verdict, and write to `contents` only where
something may change. If two detectors judge a content at the same moment, only the later finding counts.
`content_reviews` keeps the state of each reviewed content, and `flagged_daily` how many contents were called fake for
the first time. Before, both were counted again for every query.

Additive: the previous release reads the same views, and its statements fire the same triggers.
"""

# ruff: noqa: SLF001 - the downgrade puts back the SQL of the revisions 0005 and 0006
import importlib
import re
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# A subquery, not a join: for a join, the planner reads all verdicts when a statement adds some thousand findings.
_DETECTOR = "(SELECT v.detector_id FROM verdicts v WHERE v.id = f.verdict_id)"

# Grouped twice: nearly all findings of a statement have the same time and scan, so these are handled only once.
_COUNT = f"""
WITH grouped AS MATERIALIZED (
    SELECT f.decided_at, f.scan_id, bucket_of(f.uri) AS bucket, {_DETECTOR} AS detector_id, f.outcome, f.verdict,
           f.reason, CASE WHEN f.score IS NULL THEN -1 ELSE least(floor(f.score * 20), 19) END AS score_bin,
           count(*) AS findings
    FROM {{rows}} f
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
)
INSERT INTO findings_hourly AS kept
    (hour, scan_id, bucket, detector_id, outcome, verdict, reason, score_bin, shard, findings)
SELECT date_trunc('hour', f.decided_at, 'UTC'),
       CASE WHEN s.kind = 'live' THEN '00000000-0000-0000-0000-000000000000'::uuid ELSE f.scan_id END,
       f.bucket, coalesce(f.detector_id, 0), f.outcome, coalesce(f.verdict, ''), coalesce(f.reason, ''),
       f.score_bin::smallint, (pg_backend_pid() & 15)::smallint,
       {{sign}}sum(f.findings)
FROM grouped f
LEFT JOIN scans s ON s.id = f.scan_id
{{only}}
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
ON CONFLICT (hour, scan_id, bucket, detector_id, outcome, verdict, reason, score_bin, shard)
DO UPDATE SET findings = kept.findings + excluded.findings;
"""  # noqa: S608 - a constant of this file
_NOT_DROPPED = "WHERE s.dropped_at IS NULL"

# The newest finding of a content decides. A verdict of another detector marks earlier ones as superseded. Nearly always
# nothing changes. This is checked for one content at a time (OFFSET 0 forces this): for a join, the planner reads all
# contents. The hash index answers in a quarter of the time that the primary key needs.
_TAKE_BACK = f"""
IF EXISTS (
    SELECT FROM added f
    WHERE f.verdict IS NOT NULL
      AND EXISTS (
          SELECT FROM contents k
          WHERE k.sha256 = f.sha256
            AND CASE WHEN k.detector_id <> {_DETECTOR} THEN NOT k.superseded
                     ELSE f.verdict = 'real' AND (k.verdict <> 'real' OR k.superseded) END
          OFFSET 0
      )
) THEN
    UPDATE contents kept
    SET superseded = kept.detector_id <> f.detector_id,
        verdict = CASE WHEN kept.detector_id = f.detector_id THEN f.verdict ELSE kept.verdict END,
        score = CASE WHEN kept.detector_id = f.detector_id THEN f.score ELSE kept.score END
    FROM (SELECT f.sha256, {_DETECTOR} AS detector_id, f.verdict, f.score FROM added f WHERE f.verdict IS NOT NULL) f
    WHERE kept.sha256 = f.sha256
      AND (kept.detector_id <> f.detector_id AND NOT kept.superseded
           OR kept.detector_id = f.detector_id AND f.verdict = 'real' AND (kept.verdict <> 'real' OR kept.superseded));
END IF;
"""  # noqa: S608 - a constant of this file

# If two detectors judge a content at the same moment, one waits for the other, and so do a detector and a reviewer: a
# transaction that inserts a row of `contents`, or changes one that is superseded, takes this lock before any row. There
# are only 4,096 keys, so that a chunk of a producer cannot fill Postgres' table of locks. Findings of the detector that
# started last share the lock; those of an older detector take it alone. A worker takes it after the scan's row, and a
# producer before it, so they must not exclude each other without need.
_KEY = "hashtext({content}) & 4095"
_NEWEST = "(SELECT id FROM detectors ORDER BY started_at DESC NULLS LAST LIMIT 1)"
_LOCK = """CASE WHEN alone THEN pg_advisory_xact_lock({lock}, key)
             ELSE pg_advisory_xact_lock_shared({lock}, key) END"""
_LOCK_NEW = f"""
IF EXISTS (SELECT FROM added WHERE verdict <> 'real') THEN
    PERFORM {_LOCK}
    FROM (
        SELECT {_KEY.format(content="f.sha256")} AS key, bool_or({_DETECTOR} <> {_NEWEST}) AS alone
        FROM added f
        WHERE f.verdict <> 'real'
          AND NOT EXISTS (
              SELECT FROM contents k
              WHERE k.sha256 = f.sha256 AND k.detector_id = {_DETECTOR} AND NOT k.superseded
              OFFSET 0
          )
        GROUP BY 1
        ORDER BY 1
    ) AS ordered;
END IF;
"""  # noqa: S608 - a constant of this file

# A content is newly flagged when its newest finding worth attention is the first one that called it fake.
_REMEMBER = f"""
WITH attention AS MATERIALIZED (
    SELECT f.sha256, {_DETECTOR} AS detector_id, f.uri, f.scan_id, f.verdict, f.score, f.verdict_id, f.decided_at
    FROM added f
    WHERE f.verdict <> 'real' AND f.verdict_id IS NOT NULL
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
), remembered AS (
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
        last_flagged_scan_id = coalesce(excluded.last_flagged_scan_id, kept.last_flagged_scan_id)
    RETURNING kept.detector_id, kept.uri, kept.last_at,
              kept.verdict = 'fake' AND (kept.last_at, kept.uri, kept.scan_id)
                  = (kept.first_flagged_at, kept.first_flagged_uri, kept.first_flagged_scan_id) AS newly_flagged
)
INSERT INTO flagged_daily AS kept (day, detector_id, bucket, shard, contents)
SELECT date_trunc('day', last_at, 'UTC'), detector_id, bucket_of(uri), (pg_backend_pid() & 15)::smallint, count(*)
FROM remembered
WHERE newly_flagged
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
ON CONFLICT (day, detector_id, bucket, shard) DO UPDATE SET contents = kept.contents + excluded.contents;
"""  # noqa: S608 - a constant of this file

# A separate statement, because it sees what other detectors committed while the previous statement waited for a lock.
_SUPERSEDE = f"""
IF EXISTS (
    SELECT FROM added f
    WHERE f.verdict <> 'real'
      AND EXISTS (
          SELECT FROM contents k
          WHERE k.sha256 = f.sha256 AND k.detector_id <> {_DETECTOR} AND NOT k.superseded
          OFFSET 0
      )
) THEN
    UPDATE contents kept
    SET superseded = true
    FROM (SELECT f.sha256, {_DETECTOR} AS detector_id FROM added f WHERE f.verdict <> 'real') f
    WHERE kept.sha256 = f.sha256 AND kept.detector_id <> f.detector_id AND NOT kept.superseded;
END IF;
"""  # noqa: S608 - a constant of this file

_FINDINGS_ADDED = f"""
CREATE OR REPLACE FUNCTION findings_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET jit = off SET enable_seqscan = off AS $$
BEGIN
{_COUNT.format(sign="", rows="added", only="")}
{_LOCK_NEW}
{_TAKE_BACK}
IF EXISTS (SELECT FROM added WHERE verdict <> 'real') THEN
{_REMEMBER}
{_SUPERSEDE}
END IF;
RETURN NULL;
END $$;
"""
_FINDINGS_REMOVED = f"""
CREATE OR REPLACE FUNCTION findings_removed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET jit = off SET enable_seqscan = off AS $$
BEGIN
{_COUNT.format(sign="-", rows="removed", only=_NOT_DROPPED)}
RETURN NULL;
END $$;
"""

# The rule of docs/decisions/0016: the newest appeal decides. Without one, the majority of the reviewers decides, by the
# newest statement of each.
_COUNTED = """
CREATE FUNCTION counted_reviews(content text) RETURNS SETOF content_reviews LANGUAGE sql STABLE AS $$
WITH told AS (
    SELECT * FROM reviews WHERE sha256 = content AND statement IS NOT NULL
), newest AS (
    SELECT DISTINCT ON (reviewer) statement FROM told ORDER BY reviewer, created_at DESC, id DESC
), says AS (
    SELECT count(*) FILTER (WHERE statement = 'fake') AS fake, count(*) FILTER (WHERE statement = 'real') AS real,
           count(*) FILTER (WHERE statement = 'cannot_tell') AS cannot_tell
    FROM newest
), appeal AS (
    SELECT statement FROM told WHERE kind = 'appeal' ORDER BY created_at DESC, id DESC LIMIT 1
)
SELECT content,
       CASE WHEN appeal.statement IS NOT NULL THEN appeal.statement
            WHEN says.fake > says.real THEN 'fake'
            WHEN says.real > says.fake THEN 'real'
            WHEN says.fake = 0 THEN 'cannot_tell' END,
       appeal.statement IS NULL AND says.fake = says.real AND says.fake > 0,
       says.fake, says.real, says.cannot_tell, count(*), count(*) FILTER (WHERE told.kind = 'appeal'),
       min(told.created_at), max(told.created_at),
       (array_agg(told.reviewer ORDER BY told.created_at DESC, told.id DESC))[1]
FROM told CROSS JOIN says LEFT JOIN appeal ON true
GROUP BY appeal.statement, says.fake, says.real, says.cannot_tell
$$;
"""
_COUNT_ALL = """
INSERT INTO content_reviews
SELECT counted.*
FROM (SELECT DISTINCT sha256 FROM reviews) AS reviewed CROSS JOIN LATERAL counted_reviews(reviewed.sha256) AS counted;
"""
_REVIEW_STANDS = """
CREATE OR REPLACE FUNCTION review_stands() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET jit = off AS $$
BEGIN
    INSERT INTO content_reviews SELECT * FROM counted_reviews(NEW.sha256)
    ON CONFLICT (sha256) DO UPDATE
    SET statement = excluded.statement, disputed = excluded.disputed, says_fake = excluded.says_fake,
        says_real = excluded.says_real, says_cannot_tell = excluded.says_cannot_tell, reviews = excluded.reviews,
        appeals = excluded.appeals, first_reviewed_at = excluded.first_reviewed_at,
        reviewed_at = excluded.reviewed_at, last_reviewer = excluded.last_reviewer;
    PERFORM take_statement(NEW.sha256);
    INSERT INTO reviewed_verdicts AS kept (sha256, detector_id, verdict, first_reviewed_at, week)
    VALUES (NEW.sha256, NEW.detector_id, NEW.verdict, NEW.created_at, week_of(NEW.created_at))
    ON CONFLICT (sha256, detector_id) DO UPDATE
    SET verdict = excluded.verdict, first_reviewed_at = excluded.first_reviewed_at, week = excluded.week
    WHERE excluded.first_reviewed_at < kept.first_reviewed_at;
    UPDATE reviewed_verdicts v
    SET statement = s.statement
    FROM content_reviews s
    WHERE v.sha256 = NEW.sha256 AND s.sha256 = NEW.sha256;
    RETURN NULL;
END $$;
"""

# As in 0006, with that lock.
_CONTENTS_ADDED = f"""
CREATE OR REPLACE FUNCTION contents_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM {_LOCK}
    FROM (
        SELECT {_KEY.format(content="sha256")} AS key, bool_or(detector_id <> {_NEWEST}) AS alone
        FROM added
        GROUP BY 1
        ORDER BY 1
    ) AS ordered;
    PERFORM take_statement(one.sha256)
    FROM (SELECT DISTINCT sha256 FROM added) AS one
    WHERE EXISTS (SELECT FROM reviews r WHERE r.sha256 = one.sha256);
    RETURN NULL;
END $$;
"""  # noqa: S608 - a constant of this file

# Only the owner may undo that a scan was dropped, or write findings into a dropped scan. Otherwise, a role that may
# drop a scan could rewrite its findings. A worker whose scan is dropped tries again, and then sees that it is dropped.
_DROPPED_FOR_GOOD = """
CREATE FUNCTION scan_kept() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RETURN NEW;
    END IF;
    IF OLD.dropped_at IS NOT NULL THEN
        RAISE EXCEPTION 'scan % is dropped, and stays so', OLD.id USING ERRCODE = 'insufficient_privilege';
    ELSIF OLD.kind = 'scan' AND OLD.status NOT IN ('done', 'cancelled') THEN
        RAISE EXCEPTION 'scan % is not over', OLD.id
        USING ERRCODE = 'insufficient_privilege', HINT = 'cancel it first';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER scan_kept BEFORE UPDATE OF dropped_at ON scans FOR EACH ROW
WHEN (OLD.dropped_at IS DISTINCT FROM NEW.dropped_at) EXECUTE FUNCTION scan_kept();
CREATE FUNCTION findings_of_dropped_refused() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')
       AND EXISTS (SELECT FROM scans s WHERE s.dropped_at IS NOT NULL AND s.id IN (SELECT scan_id FROM added)) THEN
        RAISE EXCEPTION 'the scan is dropped: no finding of it is stored' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER findings_of_dropped_refused AFTER INSERT ON findings REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION findings_of_dropped_refused();
"""

_VIEWS = """
CREATE OR REPLACE VIEW review_status AS
SELECT sha256, statement::varchar, disputed, says_fake, says_real, says_cannot_tell, reviews, appeals,
       first_reviewed_at, reviewed_at, last_reviewer
FROM content_reviews;
CREATE OR REPLACE VIEW queue_age AS
SELECT CASE kind WHEN 'live' THEN 'moderation.live' ELSE 'moderation.scan' END AS queue, count(*) AS scans,
       sum(listed - judged - reused - unchanged - failed)::bigint AS images, min(created_at) AS oldest_at,
       extract(epoch FROM now() - min(created_at))::float AS oldest_s,
       extract(epoch FROM now() - max(coalesce(counted_at, created_at)))::float AS still_s
FROM scans
WHERE status IN ('listing', 'repairing', 'running') AND listed > judged + reused + unchanged + failed
      AND dropped_at IS NULL
GROUP BY kind;
CREATE VIEW flagged_by_day AS
SELECT f.day, f.detector_id, d.name AS detector_name, f.bucket, sum(f.contents)::bigint AS contents
FROM flagged_daily f
LEFT JOIN detectors d ON d.id = f.detector_id
GROUP BY f.day, f.detector_id, d.name, f.bucket;
"""
_FLAGGED_SO_FAR = """
INSERT INTO flagged_daily (day, detector_id, bucket, shard, contents)
SELECT date_trunc('day', first_flagged_at, 'UTC'), detector_id, bucket_of(first_flagged_uri), 0, count(*)
FROM contents
WHERE first_flagged_at IS NOT NULL
GROUP BY 1, 2, 3;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Locks the tables in the same order as workers and reviewers. Producers lock findings before scans: if one runs
    # now, Postgres may end one of the two. Then run the migration again.
    op.execute("LOCK TABLE scans, findings, reviews IN SHARE ROW EXCLUSIVE MODE")
    op.execute("LOCK TABLE contents IN ACCESS EXCLUSIVE MODE")
    _create_tables()
    op.execute(_COUNTED)
    op.execute(_COUNT_ALL)
    op.execute(_FLAGGED_SO_FAR)
    op.execute(_VIEWS)
    checked = _of(_revision("0006")._CHECKED, "review_checked")
    checked = checked.replace("hashtext(NEW.sha256)", _KEY.format(content="NEW.sha256"))
    # Locks the content first and then its rows, in the order of findings_added().
    rows, lock = re.findall(r"    PERFORM (?:FROM contents|pg_advisory_xact_lock)[^;]*;\n", checked)
    checked = checked.replace(rows + lock, lock + rows)
    for function in (
        _FINDINGS_ADDED, _FINDINGS_REMOVED, _REVIEW_STANDS, _CONTENTS_ADDED, _DROPPED_FOR_GOOD,
        checked,
    ):  # fmt: skip
        _replace(function)
    # No index has the time of the newest finding, so a content that is found again is updated within its page.
    op.drop_index("ix_contents_places", "contents")
    op.create_index(
        "ix_contents_places", "contents", [sa.text("places DESC"), sa.text("first_flagged_at DESC")],
        postgresql_where=sa.text("first_flagged_at IS NOT NULL"),
    )  # fmt: skip
    op.create_index(op.f("ix_contents_sha256"), "contents", ["sha256"], postgresql_using="hash")
    op.execute("ALTER TABLE contents SET (fillfactor = 50)")


def _create_tables() -> None:
    op.create_table(
        "content_reviews",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("statement", sa.String(length=16), nullable=True),
        sa.Column("disputed", sa.Boolean(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("says_fake", "says_real", "says_cannot_tell", "reviews", "appeals")
        ),
        sa.Column("first_reviewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reviewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_reviewer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_content_reviews")),
    )
    op.create_index(
        op.f("ix_content_reviews_reviewed_at"), "content_reviews", ["reviewed_at"], postgresql_include=["statement"]
    )
    op.create_table(
        "flagged_daily",
        sa.Column("day", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detector_id", sa.BigInteger(), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("contents", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "detector_id", "bucket", "shard", name=op.f("pk_flagged_daily")),
    )


def _replace(function: str) -> None:
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar()
    lock = str(_revision("0006")._LOCK)
    op.execute(function.replace("FROM CURRENT", f"= {schema}, pg_temp").replace("{lock}", lock))


def _revision(number: str) -> Any:
    names = {"0005": "0005_what_dashboards_read", "0006": "0006_reviews_are_statements"}
    return importlib.import_module(f"migrations.versions.{names[number]}")


def _of(sql: str, name: str) -> str:
    """Returns the statement that replaces this function, from the SQL of the revision that made it."""
    (found,) = re.findall(rf"CREATE FUNCTION {name}\(.*?END \$\$;", sql, re.DOTALL)
    return str(found).replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE scans, findings, reviews, contents IN ACCESS EXCLUSIVE MODE")
    counting, reviewing = _revision("0005"), _revision("0006")
    for trigger, table in (("findings_of_dropped_refused", "findings"), ("scan_kept", "scans")):
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
        op.execute(f"DROP FUNCTION {trigger}")
    op.execute("DROP VIEW flagged_by_day")
    for sql, name in ((counting._VIEWS, "queue_age"), (reviewing._VIEWS, "review_status")):
        (view,) = (one for one in sql.split(";") if f"CREATE VIEW {name} " in one)
        op.execute(view.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
    added = counting._COUNT.format(sign="", rows="added", only="") + counting._REMEMBER.format(rows="added")
    removed = counting._COUNT.format(sign="-", rows="removed", only=counting._NOT_DROPPED)
    counts = "".join(
        counting._FUNCTION.format(name=name, body=body)
        for name, body in (("findings_added", added), ("findings_removed", removed))
    )
    _replace(_of(counts, "findings_added"))
    _replace(_of(counts, "findings_removed"))
    _replace(_of(reviewing._CHECKED, "review_checked"))
    _replace(_of(reviewing._STANDS, "review_stands"))
    _replace(_of(reviewing._STANDS, "contents_added"))
    op.execute("DROP FUNCTION counted_reviews")
    op.drop_table("flagged_daily")
    op.drop_table("content_reviews")
    op.execute("ALTER TABLE contents RESET (fillfactor)")
    op.drop_index(op.f("ix_contents_sha256"), "contents")
    op.drop_index("ix_contents_places", "contents")
    op.create_index(
        "ix_contents_places", "contents", [sa.text("places DESC"), sa.text("last_flagged_at DESC")],
        postgresql_where=sa.text("first_flagged_at IS NOT NULL"),
    )  # fmt: skip
