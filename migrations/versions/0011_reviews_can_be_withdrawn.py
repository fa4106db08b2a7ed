"""A review can be withdrawn, the queue can be filtered, and a request for a decision can be repeated.

`withdrawals` is append-only, as `reviews` is. A withdrawn review counts nowhere: triggers count its content again.
`content_external_ids` holds the external ids that a flagged content has had: a trigger on `findings` keeps it. Existing
findings are read before any lock is taken. Under the lock, only scans that may have changed since then are read.

Additive: the previous release reads the same views, and its statements fire the same triggers.
"""

# ruff: noqa: SLF001 - the SQL of a view of 0008
import importlib

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NOT_WITHDRAWN = "NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id OFFSET 0)"

# The lock is that of review_checked(). It is taken before any row, so that changes to the reviews of one content wait
# for each other.
_WITHDRAWN = """
CREATE FUNCTION withdrawal_checked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE
    withdrawn record;
BEGIN
    SELECT sha256, reviewer INTO withdrawn FROM reviews WHERE id = NEW.review_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no review %', NEW.review_id
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'withdrawal_review', HINT = 'name a review that is there';
    ELSIF withdrawn.reviewer <> NEW.reviewer THEN
        RAISE EXCEPTION 'review % is not one of %', NEW.review_id, NEW.reviewer
        USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'withdrawal_own',
              HINT = 'people withdraw their own reviews; a lead decides an appeal instead';
    END IF;
    IF withdrawn.sha256 IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(1380275785, hashtext(withdrawn.sha256) & 4095);
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION recount_reviews(content text) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM content_reviews WHERE sha256 = content;
    INSERT INTO content_reviews SELECT * FROM counted_reviews(content);
    PERFORM take_statement(content);
    DELETE FROM reviewed_verdicts WHERE sha256 = content;
    INSERT INTO reviewed_verdicts (sha256, detector_id, verdict, first_reviewed_at, week, statement)
    SELECT DISTINCT ON (r.detector_id) r.sha256, r.detector_id, r.verdict, r.created_at, week_of(r.created_at),
           (SELECT s.statement FROM content_reviews s WHERE s.sha256 = content)
    FROM reviews r
    WHERE r.sha256 = content AND r.statement IS NOT NULL AND r.verdict IS NOT NULL AND {not_withdrawn}
    ORDER BY r.detector_id, r.created_at, r.id;
END $$;
CREATE FUNCTION review_withdrawn() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET jit = off AS $$
BEGIN
    PERFORM recount_reviews(r.sha256) FROM reviews r WHERE r.id = NEW.review_id AND r.sha256 IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER withdrawal_checked BEFORE INSERT ON withdrawals FOR EACH ROW EXECUTE FUNCTION withdrawal_checked();
CREATE TRIGGER review_withdrawn AFTER INSERT ON withdrawals FOR EACH ROW EXECUTE FUNCTION review_withdrawn();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON withdrawals FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON withdrawals FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

# A second look ends when anybody but the first reviewer has reviewed the content, or when a lead has decided, at the
# desk or by the API. The review keeps the name of the first reviewer, so that a new second look can be asked for when
# one of the two reviews is withdrawn. This trigger runs after review_checked(), which takes the lock and sets the kind.
_SECOND_LOOK = """
CREATE FUNCTION second_look_ended() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET jit = off AS $$
BEGIN
    NEW.second_of := NULL;
    DELETE FROM second_looks l
    WHERE l.sha256 = NEW.sha256 AND (l.first_reviewer <> NEW.reviewer OR NEW.kind = 'appeal')
    RETURNING l.first_reviewer INTO NEW.second_of;
    RETURN NEW;
END $$;
CREATE TRIGGER second_look_ended BEFORE INSERT ON reviews FOR EACH ROW EXECUTE FUNCTION second_look_ended();
"""

# If no review counts any more, the content has no statement.
_TAKE_STATEMENT = """
CREATE OR REPLACE FUNCTION take_statement(content text) RETURNS void LANGUAGE sql VOLATILE AS $$
UPDATE contents c
SET statement = s.statement, reviewed_at = s.reviewed_at
FROM (SELECT 1) AS one LEFT JOIN review_status s ON s.sha256 = content
WHERE c.sha256 = content
$$;
"""
_TOOK_STATEMENT = """
CREATE OR REPLACE FUNCTION take_statement(content text) RETURNS void LANGUAGE sql VOLATILE AS $$
UPDATE contents c
SET statement = s.statement, reviewed_at = s.reviewed_at
FROM review_status s
WHERE c.sha256 = content AND s.sha256 = content
$$;
"""

_TOLD = "SELECT * FROM reviews WHERE sha256 = content AND statement IS NOT NULL"
_TOLD_NOW = f"SELECT * FROM reviews r WHERE sha256 = content AND statement IS NOT NULL AND {_NOT_WITHDRAWN}"  # noqa: S608
_BY_OTHERS = "SELECT FROM reviews r WHERE r.sha256 = NEW.sha256 AND r.reviewer <> NEW.reviewer"
_FIRST_ONES = "WHERE kind = 'first' AND statement IN"
_CHANGES = {
    "counted_reviews": (_TOLD, _TOLD_NOW),
    "review_checked": (_BY_OTHERS, f"{_BY_OTHERS} AND {_NOT_WITHDRAWN}"),
}
"""In a function: what is there, and what comes in its place."""

_QUEUE = """
CREATE OR REPLACE VIEW review_queue AS
SELECT c.sha256, c.detector_id, (SELECT d.name FROM detectors d WHERE d.id = c.detector_id) AS detector_name,
       c.verdict, c.score, c.verdict_id, c.uri, c.scan_id, c.first_at,
       extract(epoch FROM now() - c.first_at)::float AS age_s, c.places,
       {reviews} AS reviews,
       coalesce((SELECT s.disputed FROM review_status s WHERE s.sha256 = c.sha256), false) AS disputed
FROM contents c
WHERE c.verdict <> 'real' AND c.statement IS NULL AND NOT c.superseded
ORDER BY c.score DESC NULLS LAST, c.first_at;
"""
_REVIEWS = "coalesce((SELECT s.reviews FROM review_status s WHERE s.sha256 = c.sha256), 0)"
_REVIEWS_BEFORE = "(SELECT count(*) FROM reviews r WHERE r.sha256 = c.sha256 AND r.statement IS NOT NULL)"

_NAMED = """
CREATE FUNCTION findings_named() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET jit = off AS $$
BEGIN
    INSERT INTO content_external_ids (external_id, sha256)
    SELECT DISTINCT external_id, sha256 FROM added
    WHERE verdict <> 'real' AND external_id IS NOT NULL AND sha256 IS NOT NULL
    ORDER BY external_id, sha256
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER findings_named AFTER INSERT ON findings REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION findings_named();
"""
_NAME_ALL = """
INSERT INTO content_external_ids (external_id, sha256)
SELECT DISTINCT external_id, sha256 FROM findings
WHERE verdict <> 'real' AND external_id IS NOT NULL AND sha256 IS NOT NULL
ON CONFLICT DO NOTHING;
"""
# Reads what was written after the first reading began. A scan that ended more than a day ago has nothing new.
_NAME_LATE = """
DO $$
DECLARE
    one text;
BEGIN
    FOR one IN SELECT DISTINCT partition FROM scans
               WHERE dropped_at IS NULL AND (finished_at IS NULL OR finished_at > now() - interval '1 day') LOOP
        EXECUTE format(
            'INSERT INTO content_external_ids (external_id, sha256) SELECT DISTINCT external_id, sha256 FROM findings '
            'WHERE partition = %L AND verdict <> ''real'' AND external_id IS NOT NULL AND sha256 IS NOT NULL '
            'ON CONFLICT DO NOTHING', one);
    END LOOP;
END $$;
"""
_OF_OWNER = ("withdrawal_checked()", "review_withdrawn()", "findings_named()", "second_look_ended()")
_WAITING = sa.text("verdict <> 'real' AND statement IS NULL AND NOT superseded")
_BUCKET = "bucket_of(uri)"
# For each filter: the columns that come before those of the queue's order, and the columns of a second filter after
# them.
_FILTERED = {
    "scan": (("scan_id", "verdict"), (_BUCKET, "detector_id")),
    "bucket": ((_BUCKET, "verdict"), ("detector_id",)),
    "detector": (("detector_id", "verdict"), ()),
    "verdict": (("verdict",), ()),
}
_MOST_SEVERE = ("score DESC NULLS LAST", "first_at")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _create_tables()
    op.execute(_NAME_ALL)
    # Locks the tables in the same order as workers and reviewers.
    op.execute("LOCK TABLE findings, reviews IN SHARE ROW EXCLUSIVE MODE")
    op.execute("LOCK TABLE contents IN SHARE MODE")
    op.execute(_NAMED)
    op.execute(_NAME_LATE)
    op.add_column("reviews", sa.Column("claim_id", sa.Uuid(), nullable=True))
    op.add_column("reviews", sa.Column("second_of", sa.Text(), nullable=True))
    op.execute(_SECOND_LOOK)
    for function, (before, after) in _CHANGES.items():
        _change(function, before, after)
    op.execute(_WITHDRAWN.replace("{not_withdrawn}", _NOT_WITHDRAWN))
    op.execute(_TAKE_STATEMENT)
    op.execute(_QUEUE.format(reviews=_REVIEWS))
    op.execute(_shares(f"reviews r, today\n    WHERE {_NOT_WITHDRAWN} AND {_FIRST_ONES.removeprefix('WHERE ')}"))
    _create_indexes()
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar()
    for name in _OF_OWNER:
        # As in 0007.
        op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")


def _create_tables() -> None:
    op.create_table(
        "withdrawals",
        sa.Column("review_id", sa.BigInteger(), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("review_id", name=op.f("pk_withdrawals")),
        sa.ForeignKeyConstraint(["reviewer"], ["reviewers.name"], name=op.f("fk_withdrawals_reviewer")),
    )
    op.create_table(
        "content_external_ids",
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("external_id", "sha256", name=op.f("pk_content_external_ids")),
    )
    op.create_index(op.f("ix_content_external_ids_sha256"), "content_external_ids", ["sha256"])


def _create_indexes() -> None:
    """Creates indexes: on what waits, by each filter; on what is disputed; on a person's decisions."""
    for name, (before, behind) in _FILTERED.items():
        op.create_index(
            f"ix_contents_to_review_by_{name}", "contents",
            [sa.text(one) for one in (*before, *_MOST_SEVERE, *behind)], postgresql_where=_WAITING,
        )  # fmt: skip
    # A content that waits although it is reviewed is disputed: only then has a reviewed content no statement.
    op.create_index(
        "ix_contents_disputed", "contents",
        [sa.text(one) for one in (*_MOST_SEVERE, "verdict", "scan_id", _BUCKET, "detector_id")],
        postgresql_where=sa.text(f"{_WAITING.text} AND reviewed_at IS NOT NULL"),
    )  # fmt: skip
    op.create_index("ix_reviews_reviewer", "reviews", ["reviewer", sa.text("id DESC")])
    op.create_index(
        "uq_reviews_claim", "reviews", ["claim_id", "sha256"], unique=True,
        postgresql_where=sa.text("claim_id IS NOT NULL"),
    )  # fmt: skip


def _change(function: str, before: str, after: str) -> None:
    """Replaces a part of a function, and leaves its settings as they are."""
    query = sa.text("SELECT pg_get_functiondef(CAST(:name AS regproc))")
    sql = str(op.get_bind().execute(query, {"name": function}).scalar())
    if sql.count(before) != 1:
        raise RuntimeError(f"the function {function} is not the one of revision 0009")
    op.get_bind().exec_driver_sql(sql.replace(before, after).replace("%", "%%"))


def _shares(first_ones: str) -> str:
    drift = importlib.import_module("migrations.versions.0008_drift")
    before = f"reviews, today\n    {_FIRST_ONES}"
    if before not in drift._DAILY:
        raise RuntimeError("the view drift_shares is not the one of revision 0008")
    sql = drift._SHARES.format(daily=drift._DAILY.replace(before, first_ones), compared=drift._COMPARED)
    return str(sql).replace("CREATE VIEW", "CREATE OR REPLACE VIEW")


def downgrade() -> None:
    """Withdrawn reviews count again."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE findings, reviews, contents IN ACCESS EXCLUSIVE MODE")
    op.execute(
        "CREATE TEMPORARY TABLE counting ON COMMIT DROP AS SELECT DISTINCT sha256 FROM withdrawals "
        "JOIN reviews ON reviews.id = review_id WHERE sha256 IS NOT NULL"
    )
    for function, (before, after) in _CHANGES.items():
        _change(function, after, before)
    op.execute(_shares(f"reviews, today\n    {_FIRST_ONES}"))
    op.execute(_QUEUE.format(reviews=_REVIEWS_BEFORE))
    body = _WITHDRAWN.split("CREATE FUNCTION recount_reviews")[1].split("CREATE FUNCTION", maxsplit=1)[0]
    op.execute("CREATE OR REPLACE FUNCTION recount_reviews" + body.replace("{not_withdrawn}", "true"))
    op.execute("SELECT recount_reviews(sha256) FROM counting")
    op.execute(_TOOK_STATEMENT)
    op.execute("DROP TRIGGER findings_named ON findings")
    op.execute("DROP TRIGGER second_look_ended ON reviews")
    op.drop_table("withdrawals")
    op.drop_table("content_external_ids")
    for function in (*_OF_OWNER, "recount_reviews(text)"):
        op.execute(f"DROP FUNCTION {function}")
    for name in _FILTERED:
        op.drop_index(f"ix_contents_to_review_by_{name}", "contents")
    op.drop_index("ix_contents_disputed", "contents")
    op.drop_index("ix_reviews_reviewer", "reviews")
    op.drop_column("reviews", "claim_id")
    op.drop_column("reviews", "second_of")
