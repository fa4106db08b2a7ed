"""Reviews that state what a content is; reviewers; the statement that holds; the views of reviewers.

The database itself refuses a review of what does not exist. Existing reviews get the statement that follows from their
decision and from the verdict that their author saw. A decision about an uncertain verdict says nothing about the
content: such a review keeps its decision and states nothing.

Additive: `decision` stays for one release, and is filled. The previous release reads it, and may write it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Computes what verdict_of in worker/detector/verdicts.py computes. NULL if the scan's policy has no thresholds, or if
# there is no scan: old reviews may name one that never existed.
_FUNCTIONS = """
CREATE FUNCTION verdict_under(policy jsonb, score float) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN coalesce(NOT policy ?& '{fake_from,real_to}', true) THEN NULL
            WHEN score >= (policy ->> 'fake_from')::float THEN 'fake'
            WHEN score <= (policy ->> 'real_to')::float THEN 'real'
            ELSE 'uncertain' END
$$;
CREATE FUNCTION stated_by(decision text, verdict text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN decision = 'cannot_tell' THEN 'cannot_tell'
            WHEN verdict = 'fake' THEN CASE decision WHEN 'confirmed' THEN 'fake' WHEN 'overturned' THEN 'real' END
            WHEN verdict = 'real' THEN CASE decision WHEN 'confirmed' THEN 'real' WHEN 'overturned' THEN 'fake' END END
$$;
CREATE FUNCTION week_of(moment timestamptz) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT date_trunc('week', moment AT TIME ZONE 'UTC')::date
$$;
CREATE FUNCTION wilson_bound(hits bigint, trials bigint, side int) RETURNS float
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT (p + z * z / (2 * n) + side * z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
FROM (SELECT 1.959964::float AS z, nullif(trials, 0)::float AS n, hits::float / nullif(trials, 0) AS p) given
$$;
"""

_OLD_REVIEWS = """
ALTER TABLE reviews DISABLE TRIGGER append_only;
WITH seen AS (
    SELECT r.id, coalesce(r.sha256, v.sha256, f.sha256) AS sha256, v.id AS verdict_id, v.detector_id, v.score,
           CASE WHEN v.id IS NOT NULL THEN verdict_under(s.policy, v.score) END AS verdict
    FROM reviews r
    LEFT JOIN scans s ON s.id = r.scan_id
    LEFT JOIN findings f ON r.verdict_id IS NULL AND f.partition = s.partition AND f.scan_id = r.scan_id
                            AND f.uri = r.uri AND f.decided_at <= r.created_at
    LEFT JOIN verdicts v ON v.id = coalesce(r.verdict_id, f.verdict_id)
                            AND v.sha256 = coalesce(r.sha256, v.sha256)
)
UPDATE reviews r
SET sha256 = seen.sha256, verdict_id = coalesce(r.verdict_id, seen.verdict_id), detector_id = seen.detector_id,
    verdict = seen.verdict, score = seen.score, statement = stated_by(r.decision, seen.verdict), kind = 'first'
FROM seen
WHERE seen.id = r.id;
UPDATE reviews r
SET kind = 'second'
WHERE EXISTS (
    SELECT FROM reviews earlier
    WHERE earlier.sha256 = r.sha256 AND earlier.reviewer <> r.reviewer
      AND (earlier.created_at, earlier.id) < (r.created_at, r.id)
);
ALTER TABLE reviews ENABLE TRIGGER append_only;
INSERT INTO reviewers (name, created_at) SELECT reviewer, min(created_at) FROM reviews GROUP BY reviewer;
"""

# producers/reviews.py recognises by the names of the constraints what is missing.
_CHECKED = """
CREATE FUNCTION review_checked() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    of_scan record;
    found_there record;
    seen record;
    is_active boolean;
BEGIN
    SELECT partition, policy, dropped_at INTO of_scan FROM scans WHERE id = NEW.scan_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no scan %', NEW.scan_id
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'review_scan', HINT = 'fakesweep status lists the scans';
    END IF;
    SELECT active INTO is_active FROM reviewers WHERE name = NEW.reviewer;
    IF is_active IS NULL THEN
        RAISE EXCEPTION 'there is no reviewer %', NEW.reviewer
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'review_reviewer',
              HINT = 'add one with fakesweep reviewer add';
    ELSIF NOT is_active THEN
        RAISE EXCEPTION 'the reviewer % is disabled', NEW.reviewer
        USING ERRCODE = 'check_violation', CONSTRAINT = 'review_active_reviewer',
              HINT = 'fakesweep reviewer add makes a reviewer active again';
    END IF;
    SELECT f.sha256, f.verdict_id, f.verdict INTO found_there
    FROM findings f
    WHERE f.partition = of_scan.partition AND f.scan_id = NEW.scan_id AND f.uri = NEW.uri;
    IF NOT FOUND AND of_scan.dropped_at IS NULL THEN
        RAISE EXCEPTION 'scan % found nothing at %', NEW.scan_id, NEW.uri
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'review_content',
              HINT = 'name a scan that has a finding there: see fakesweep history';
    END IF;
    -- Who names no content means the one that the scan found; who names no verdict, the one that is shown there.
    IF NEW.verdict_id IS NULL THEN
        NEW.sha256 := coalesce(NEW.sha256, found_there.sha256);
        NEW.verdict_id := coalesce(
            CASE WHEN found_there.sha256 = NEW.sha256 THEN found_there.verdict_id END,
            (SELECT max(id) FROM verdicts WHERE sha256 = NEW.sha256)
        );
        IF NEW.verdict_id IS NULL THEN
            RAISE EXCEPTION 'no detector has judged the % at %', coalesce('content ' || NEW.sha256, 'image'), NEW.uri
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'review_content',
                  HINT = concat('scan it first', CASE WHEN NEW.sha256 IS NULL THEN ', or name the content' END);
        END IF;
    END IF;
    SELECT v.sha256, v.detector_id, v.score, v.uri INTO seen FROM verdicts v WHERE v.id = NEW.verdict_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no verdict %', NEW.verdict_id
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'review_content',
              HINT = 'name the verdict of a finding, or none';
    END IF;
    NEW.sha256 := coalesce(NEW.sha256, seen.sha256);
    IF seen.sha256 <> NEW.sha256 THEN
        RAISE EXCEPTION 'verdict % is about the content %, and not about %', NEW.verdict_id, seen.sha256, NEW.sha256
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'review_content',
              HINT = 'name the content that the reviewer saw';
    END IF;
    -- Something else may lie at the uri since, and the findings of the scan may be dropped.
    IF found_there.sha256 IS DISTINCT FROM NEW.sha256 AND seen.uri <> NEW.uri
       AND NOT EXISTS (SELECT FROM content_places p WHERE p.sha256 = NEW.sha256 AND p.uri = NEW.uri)
       AND NOT EXISTS (SELECT FROM objects o WHERE o.uri = NEW.uri AND o.sha256 = NEW.sha256) THEN
        RAISE EXCEPTION 'the content % is not known to have been at %', NEW.sha256, NEW.uri
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'review_content',
              HINT = 'name a place where a scan found it';
    END IF;
    NEW.detector_id := seen.detector_id;
    NEW.score := seen.score;
    NEW.verdict := CASE WHEN found_there.verdict_id = NEW.verdict_id THEN found_there.verdict
                        ELSE verdict_under(of_scan.policy, seen.score) END;
    IF NEW.verdict IS NULL THEN
        RAISE EXCEPTION 'scan % has judged nothing', NEW.scan_id
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'review_content',
              HINT = 'name a scan in which the content has a verdict';
    END IF;
    NEW.statement := coalesce(NEW.statement, stated_by(NEW.decision, NEW.verdict));
    IF NEW.statement IS NULL THEN
        RAISE EXCEPTION 'the review of % states nothing', NEW.uri
        USING ERRCODE = 'check_violation', CONSTRAINT = 'review_statement', HINT = 'state fake, real or cannot_tell';
    END IF;
    NEW.decision := CASE NEW.statement WHEN 'cannot_tell' THEN 'cannot_tell' WHEN NEW.verdict THEN 'confirmed'
                                       ELSE 'overturned' END;
    -- Rows first and then the content, as review_stands() locks what it needs: two reviews of one content take turns,
    -- and a worker that writes a new row of the content at the same time knows of this review, or this one of the row.
    PERFORM FROM contents c WHERE c.sha256 = NEW.sha256 ORDER BY c.detector_id FOR NO KEY UPDATE;
    PERFORM pg_advisory_xact_lock({lock}, hashtext(NEW.sha256));
    NEW.kind := coalesce(NEW.kind, CASE WHEN EXISTS (
        SELECT FROM reviews r WHERE r.sha256 = NEW.sha256 AND r.reviewer <> NEW.reviewer
    ) THEN 'second' ELSE 'first' END);
    RETURN NEW;
END $$;
CREATE TRIGGER review_checked BEFORE INSERT ON reviews FOR EACH ROW EXECUTE FUNCTION review_checked();
"""

# The first key of an advisory lock ("REVI" in ASCII). The second key is a content.
_LOCK = 0x52455649

_STANDS = """
CREATE FUNCTION take_statement(content text) RETURNS void LANGUAGE sql VOLATILE AS $$
UPDATE contents c
SET statement = s.statement, reviewed_at = s.reviewed_at
FROM review_status s
WHERE c.sha256 = content AND s.sha256 = content
$$;
CREATE FUNCTION review_stands() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM take_statement(NEW.sha256);
    INSERT INTO reviewed_verdicts AS kept (sha256, detector_id, verdict, first_reviewed_at, week)
    VALUES (NEW.sha256, NEW.detector_id, NEW.verdict, NEW.created_at, week_of(NEW.created_at))
    ON CONFLICT (sha256, detector_id) DO UPDATE
    SET verdict = excluded.verdict, first_reviewed_at = excluded.first_reviewed_at, week = excluded.week
    WHERE excluded.first_reviewed_at < kept.first_reviewed_at;
    UPDATE reviewed_verdicts v
    SET statement = s.statement
    FROM review_status s
    WHERE v.sha256 = NEW.sha256 AND s.sha256 = NEW.sha256;
    RETURN NULL;
END $$;
CREATE TRIGGER review_stands AFTER INSERT ON reviews FOR EACH ROW EXECUTE FUNCTION review_stands();
CREATE FUNCTION contents_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared({lock}, content)
    FROM (SELECT DISTINCT hashtext(sha256) AS content FROM added ORDER BY 1) AS ordered;
    PERFORM take_statement(one.sha256)
    FROM (SELECT DISTINCT sha256 FROM added) AS one
    WHERE EXISTS (SELECT FROM reviews r WHERE r.sha256 = one.sha256);
    RETURN NULL;
END $$;
CREATE TRIGGER contents_added AFTER INSERT ON contents REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION contents_added();
UPDATE contents c
SET statement = s.statement, reviewed_at = s.reviewed_at
FROM review_status s
WHERE s.sha256 = c.sha256;
INSERT INTO reviewed_verdicts (sha256, detector_id, verdict, first_reviewed_at, week, statement)
SELECT DISTINCT ON (r.sha256, r.detector_id) r.sha256, r.detector_id, r.verdict, r.created_at, week_of(r.created_at),
       s.statement
FROM reviews r JOIN review_status s USING (sha256)
WHERE r.statement IS NOT NULL AND r.verdict IS NOT NULL
ORDER BY r.sha256, r.detector_id, r.created_at, r.id;
"""

# The rule of docs/decisions/0016: the newest appeal decides. Without one, the majority of the reviewers decides, by the
# newest statement of each. review_queue has subqueries in place of joins, so that count(*) reads only the index.
_VIEWS = """
CREATE VIEW review_status AS
SELECT told.sha256,
       CASE WHEN appeal.statement IS NOT NULL THEN appeal.statement
            WHEN says_fake > says_real THEN 'fake'
            WHEN says_real > says_fake THEN 'real'
            WHEN says_fake = 0 THEN 'cannot_tell' END AS statement,
       appeal.statement IS NULL AND says_fake = says_real AND says_fake > 0 AS disputed,
       says_fake, says_real, says_cannot_tell, reviews, appeals, first_reviewed_at, reviewed_at,
       (SELECT r.reviewer FROM reviews r WHERE r.sha256 = told.sha256 AND r.statement IS NOT NULL
        ORDER BY r.created_at DESC, r.id DESC LIMIT 1) AS last_reviewer
FROM (
    SELECT sha256, count(*) FILTER (WHERE newest AND statement = 'fake') AS says_fake,
           count(*) FILTER (WHERE newest AND statement = 'real') AS says_real,
           count(*) FILTER (WHERE newest AND statement = 'cannot_tell') AS says_cannot_tell,
           count(*) AS reviews, count(*) FILTER (WHERE kind = 'appeal') AS appeals,
           min(created_at) AS first_reviewed_at, max(created_at) AS reviewed_at
    FROM (
        SELECT sha256, kind, statement, created_at,
               row_number() OVER (PARTITION BY sha256, reviewer ORDER BY created_at DESC, id DESC) = 1 AS newest
        FROM reviews
        WHERE sha256 IS NOT NULL AND statement IS NOT NULL
    ) AS by_reviewer
    GROUP BY sha256
) AS told
LEFT JOIN (
    SELECT DISTINCT ON (sha256) sha256, statement
    FROM reviews
    WHERE kind = 'appeal'
    ORDER BY sha256, created_at DESC, id DESC
) AS appeal USING (sha256);
CREATE VIEW review_queue AS
SELECT c.sha256, c.detector_id, (SELECT d.name FROM detectors d WHERE d.id = c.detector_id) AS detector_name,
       c.verdict, c.score, c.verdict_id, c.uri, c.scan_id, c.first_at,
       extract(epoch FROM now() - c.first_at)::float AS age_s, c.places,
       (SELECT count(*) FROM reviews r WHERE r.sha256 = c.sha256 AND r.statement IS NOT NULL) AS reviews,
       coalesce((SELECT s.disputed FROM review_status s WHERE s.sha256 = c.sha256), false) AS disputed
FROM contents c
WHERE c.verdict <> 'real' AND c.statement IS NULL AND NOT c.superseded
ORDER BY c.score DESC NULLS LAST, c.first_at;
CREATE VIEW detector_quality AS
SELECT counted.detector_id, d.name AS detector_name, week, contents, fake_confirmed, fake_overturned, real_confirmed,
       real_overturned, uncertain_fake, uncertain_real, cannot_tell, disputed,
       overturned::float / nullif(decided, 0) AS overturn_rate,
       wilson_bound(overturned, decided, -1) AS overturn_low, wilson_bound(overturned, decided, 1) AS overturn_high
FROM (
    SELECT *, fake_overturned + real_overturned AS overturned,
           fake_confirmed + fake_overturned + real_confirmed + real_overturned AS decided
    FROM (
        SELECT detector_id, week, count(*) AS contents,
               count(*) FILTER (WHERE verdict = 'fake' AND statement = 'fake') AS fake_confirmed,
               count(*) FILTER (WHERE verdict = 'fake' AND statement = 'real') AS fake_overturned,
               count(*) FILTER (WHERE verdict = 'real' AND statement = 'real') AS real_confirmed,
               count(*) FILTER (WHERE verdict = 'real' AND statement = 'fake') AS real_overturned,
               count(*) FILTER (WHERE verdict = 'uncertain' AND statement = 'fake') AS uncertain_fake,
               count(*) FILTER (WHERE verdict = 'uncertain' AND statement = 'real') AS uncertain_real,
               count(*) FILTER (WHERE statement = 'cannot_tell') AS cannot_tell,
               count(*) FILTER (WHERE statement IS NULL) AS disputed
        FROM reviewed_verdicts
        GROUP BY detector_id, week
    ) AS by_week
) AS counted
LEFT JOIN detectors d ON d.id = counted.detector_id;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE reviews IN ACCESS EXCLUSIVE MODE")
    op.create_table(
        "reviewers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_reviewers")),
    )
    op.create_table(
        "reviewed_verdicts",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("detector_id", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("first_reviewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("statement", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("sha256", "detector_id", name=op.f("pk_reviewed_verdicts")),
    )
    for column in (
        sa.Column("kind", sa.String(length=8), nullable=True),
        sa.Column("statement", sa.String(length=16), nullable=True),
        sa.Column("detector_id", sa.BigInteger(), nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
    ):
        op.add_column("reviews", column)
    op.execute(_FUNCTIONS)
    op.execute(_OLD_REVIEWS)
    op.alter_column("reviews", "kind", nullable=False)
    for name, condition in (
        ("kind", "kind IN ('first', 'second', 'appeal')"),
        ("statement", "statement IN ('fake', 'real', 'cannot_tell')"),
        ("verdict", "verdict IN ('fake', 'uncertain', 'real')"),
    ):
        op.create_check_constraint(op.f(f"ck_reviews_{name}"), "reviews", condition)
    _create_indexes()
    op.execute(_VIEWS)
    # Locks the tables in the same order as workers. Otherwise, both could wait for each other for ever.
    op.execute("LOCK TABLE scans, contents IN SHARE ROW EXCLUSIVE MODE")
    # Not checked for old rows: people could write reviews of scans that never existed by hand.
    op.create_foreign_key(
        op.f("fk_reviews_scan_id"), "reviews", "scans", ["scan_id"], ["id"], postgresql_not_valid=True
    )
    op.create_foreign_key(op.f("fk_reviews_reviewer"), "reviews", "reviewers", ["reviewer"], ["name"])
    op.execute(_CHECKED.replace("{lock}", str(_LOCK)))
    op.execute(_STANDS.replace("{lock}", str(_LOCK)))


def _create_indexes() -> None:
    """Creates indexes on the reviews of each content, in the order in which review_status reads them."""
    newest_first = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index(
        "ix_reviews_by_reviewer", "reviews", ["sha256", "reviewer", *newest_first],
        postgresql_include=["kind", "statement"],
    )  # fmt: skip
    op.create_index(
        "ix_reviews_appeals", "reviews", ["sha256", *newest_first], postgresql_where=sa.text("kind = 'appeal'"),
        postgresql_include=["statement"],
    )  # fmt: skip
    op.drop_index(op.f("ix_reviews_sha256"), "reviews")


def downgrade() -> None:
    """Loses what people stated about contents with an uncertain verdict, because a decision cannot express it."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE scans, contents, reviews IN ACCESS EXCLUSIVE MODE")
    op.execute("UPDATE contents SET statement = NULL, reviewed_at = NULL WHERE reviewed_at IS NOT NULL")
    for trigger, table in (("contents_added", "contents"), ("review_stands", "reviews"), ("review_checked", "reviews")):
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
        op.execute(f"DROP FUNCTION {trigger}")
    op.execute("DROP FUNCTION take_statement")
    for view in ("detector_quality", "review_queue", "review_status"):
        op.execute(f"DROP VIEW {view}")
    for function in ("wilson_bound", "week_of", "stated_by", "verdict_under"):
        op.execute(f"DROP FUNCTION {function}")
    op.create_index(op.f("ix_reviews_sha256"), "reviews", ["sha256"])
    for index in ("ix_reviews_by_reviewer", "ix_reviews_appeals"):
        op.drop_index(index, "reviews")
    op.drop_constraint(op.f("fk_reviews_reviewer"), "reviews")
    op.drop_constraint(op.f("fk_reviews_scan_id"), "reviews")
    for column in ("score", "verdict", "detector_id", "statement", "kind"):
        op.drop_column("reviews", column)
    op.drop_table("reviewed_verdicts")
    op.drop_table("reviewers")
