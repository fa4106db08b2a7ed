"""The first tables

Rules: a migration first only adds (a column is dropped one release after its last use). An index on a large table is
built CONCURRENTLY. A migration waits for a lock for at most 5 s, so that it cannot stop the workers.

Revision: 0001, after None
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

_APPEND_ONLY = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: a row is never changed or deleted', TG_TABLE_NAME;
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON verdicts FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON reviews FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""

_VIEWS = """
CREATE VIEW finding_details AS
SELECT f.partition, f.scan_id, f.uri, f.external_id, f.outcome, f.verdict, f.score, v.explanation,
       coalesce(v.contradicts, false) AS contradicts, f.reason, f.detail, f.etag, f.sha256, f.width, f.height,
       d.name AS detector_name, d.model AS detector_model, d.revision AS detector_revision,
       d.prompt_revision, d.preprocessing_revision, d.dtype, d.quantization, d.fingerprint AS detector_fingerprint,
       f.reused_from, f.attempts, f.decided_at, f.verdict_id
FROM findings f
LEFT JOIN verdicts v ON v.id = f.verdict_id
LEFT JOIN detectors d ON d.id = v.detector_id;
CREATE VIEW flagged_findings AS
SELECT * FROM finding_details WHERE verdict = 'fake';
CREATE VIEW scan_progress AS
SELECT id AS scan_id, kind, name, source, status, listed, judged, reused, failed, fake, uncertain, real,
       CASE WHEN listed > 0 THEN (judged + reused + failed)::float / listed ELSE 1 END AS share_done,
       CASE WHEN judged + reused > 0 THEN fake::float / (judged + reused) END AS share_flagged,
       created_at, finished_at
FROM scans;
"""
revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "detectors",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("prompt_revision", sa.Text(), nullable=False),
        sa.Column("preprocessing_revision", sa.Text(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("quantization", sa.Text(), nullable=True),
        sa.Column("notice", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_detectors")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_detectors_fingerprint")),
    )
    op.create_table(
        "findings",
        sa.Column("partition", sa.String(length=63), nullable=False),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("verdict_id", sa.BigInteger(), nullable=True),
        sa.Column("reused_from", sa.Text(), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(outcome = 'failed') = (reason IS NOT NULL)", name=op.f("ck_findings_failed_has_reason")),
        sa.CheckConstraint("(outcome = 'failed') = (verdict IS NULL)", name=op.f("ck_findings_decided_has_verdict")),
        sa.CheckConstraint("outcome IN ('judged', 'reused', 'failed')", name=op.f("ck_findings_outcome")),
        sa.CheckConstraint("verdict IN ('fake', 'uncertain', 'real')", name=op.f("ck_findings_verdict")),
        sa.PrimaryKeyConstraint("partition", "scan_id", "uri", name=op.f("pk_findings")),
        postgresql_partition_by="LIST (partition)",
    )
    op.create_index(
        "ix_findings_flagged",
        "findings",
        ["scan_id", sa.literal_column("score DESC NULLS LAST")],
        unique=False,
        postgresql_where=sa.text("verdict = 'fake'"),
    )
    op.create_index(
        "ix_findings_flagged_at", "findings", ["decided_at"], unique=False, postgresql_where=sa.text("verdict = 'fake'")
    )
    op.create_index("ix_findings_uri", "findings", ["uri", "decided_at"], unique=False)
    op.create_table(
        "objects",
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("uri", name=op.f("pk_objects")),
    )
    op.create_table(
        "reviews",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("verdict_id", sa.BigInteger(), nullable=True),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("decision IN ('confirmed', 'overturned', 'cannot_tell')", name=op.f("ck_reviews_decision")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_sha256"), "reviews", ["sha256"], unique=False)
    op.create_index(op.f("ix_reviews_uri"), "reviews", ["uri"], unique=False)
    op.create_table(
        "scans",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("policy", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("partition", sa.String(length=63), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("listed", sa.BigInteger(), nullable=False),
        sa.Column("skipped", sa.BigInteger(), nullable=False),
        sa.Column("judged", sa.BigInteger(), nullable=False),
        sa.Column("reused", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("fake", sa.BigInteger(), nullable=False),
        sa.Column("uncertain", sa.BigInteger(), nullable=False),
        sa.Column("real", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('scan', 'live')", name=op.f("ck_scans_kind")),
        sa.CheckConstraint("status IN ('listing', 'running', 'done')", name=op.f("ck_scans_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scans")),
        sa.UniqueConstraint("token", name=op.f("uq_scans_token")),
    )
    op.create_index(op.f("ix_scans_created_at"), "scans", ["created_at"], unique=False)
    op.create_table(
        "suspects",
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scan_id", "uri", name=op.f("pk_suspects")),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("detector_id", sa.BigInteger(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("explain", sa.String(length=8), nullable=False),
        sa.Column("answer", sa.String(length=16), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("completion", sa.Text(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=True),
        sa.Column("contradicts", sa.Boolean(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("latency_ms", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("answer IN ('fake', 'real', 'undecided')", name=op.f("ck_verdicts_answer")),
        sa.CheckConstraint("score BETWEEN 0 AND 1", name=op.f("ck_verdicts_score")),
        sa.ForeignKeyConstraint(["detector_id"], ["detectors.id"], name=op.f("fk_verdicts_detector_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
    )
    op.create_index(
        op.f("ix_verdicts_sha256_detector_id_id"), "verdicts", ["sha256", "detector_id", "id"], unique=False
    )
    op.execute(_APPEND_ONLY)
    op.execute(_VIEWS)


def downgrade() -> None:
    for view in ("scan_progress", "flagged_findings", "finding_details"):
        op.execute(f"DROP VIEW {view}")
    for table in ("verdicts", "suspects", "scans", "reviews", "objects", "findings", "detectors"):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change")
