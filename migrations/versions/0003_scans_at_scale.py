"""Scans that stop and continue: what they list, why they are paused, what is not yet published, and their schedule.

Additive: workers of the previous release continue to write while this runs. They do not know paused or cancelled scans,
and judge their images.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

_PROGRESS = """
CREATE OR REPLACE VIEW scan_progress AS
SELECT id AS scan_id, kind, name, source, status, listed, judged, reused, failed, fake, uncertain, real,
       CASE WHEN listed > 0 THEN (judged + reused + failed)::float / listed ELSE 1 END AS share_done,
       CASE WHEN judged + reused > 0 THEN fake::float / (judged + reused) END AS share_flagged,
       created_at, finished_at{more}
FROM scans
"""
_MORE = """,
       CASE WHEN judged + reused + failed > 0 THEN failed::float / (judged + reused + failed) END AS share_failed,
       skipped, note, schedule, due_at, dropped_at"""

_STATUSES = "'listing', 'running', 'done'"

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Locks the tables in the same order as workers. Otherwise, both could wait for each other for ever.
    op.execute("LOCK TABLE detectors, objects, scans IN ACCESS EXCLUSIVE MODE")
    op.create_table(
        "repaired",
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scan_id", "uri", name=op.f("pk_repaired")),
    )
    op.create_table(
        "unpublished",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("messages", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unpublished")),
    )
    op.create_index(op.f("ix_unpublished_scan_id"), "unpublished", ["scan_id"], unique=False)
    op.add_column("objects", sa.Column("verdict_id", sa.BigInteger(), nullable=True))
    op.add_column("detectors", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))
    # The defaults are constant, so no table is rewritten.
    for column in (
        sa.Column("listing", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("skipped_by", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("rejudge", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("max_flagged_share", sa.Float(), nullable=True),
        sa.Column("max_failed_share", sa.Float(), nullable=True),
        sa.Column("paused_from", sa.String(length=16), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("rate", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "detector_ids", postgresql.ARRAY(sa.BigInteger()), server_default=sa.text("'{}'::bigint[]"), nullable=False
        ),
        sa.Column("schedule", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dropped_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("scans", column)
    op.create_index(op.f("ix_scans_partition"), "scans", ["partition"], unique=False)
    op.create_index(
        op.f("ix_scans_schedule_due_at"), "scans", ["schedule", "due_at"], unique=False,
        postgresql_where=sa.text("schedule IS NOT NULL"),
    )  # fmt: skip
    _allow(f"{_STATUSES}, 'repairing', 'paused', 'cancelled'")
    op.execute(_PROGRESS.format(more=_MORE))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE detectors, objects, scans IN ACCESS EXCLUSIVE MODE")
    op.execute("UPDATE scans SET status = 'running' WHERE status IN ('repairing', 'paused')")
    op.execute("UPDATE scans SET status = 'done' WHERE status = 'cancelled'")
    _allow(_STATUSES)
    op.execute("DROP VIEW scan_progress")
    op.execute(_PROGRESS.format(more=""))
    op.drop_index(op.f("ix_scans_schedule_due_at"), "scans")
    op.drop_index(op.f("ix_scans_partition"), "scans")
    for column in (
        "dropped_at", "due_at", "schedule", "detector_ids", "counted_at", "rate", "note", "paused_from",
        "max_failed_share", "max_flagged_share", "rejudge", "skipped_by", "listing",
    ):  # fmt: skip
        op.drop_column("scans", column)
    op.drop_column("detectors", "started_at")
    op.drop_column("objects", "verdict_id")
    op.drop_table("unpublished")
    op.drop_table("repaired")


def _allow(statuses: str) -> None:
    # There is one row per scan and per submission. Checking a million rows takes about a second.
    op.execute("ALTER TABLE scans DROP CONSTRAINT ck_scans_status")
    op.execute(f"ALTER TABLE scans ADD CONSTRAINT ck_scans_status CHECK (status IN ({statuses}))")
