"""Whole descriptions of detectors; raw log-odds and cut answers of verdicts; contradictions between text and verdict.

Additive: workers of the previous release continue to write while this runs.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

_DETAILS = """
CREATE OR REPLACE VIEW finding_details AS
SELECT f.partition, f.scan_id, f.uri, f.external_id, f.outcome, f.verdict, f.score, v.explanation,
       coalesce({contradicts}, false) AS contradicts, f.reason, f.detail, f.etag, f.sha256, f.width, f.height,
       d.name AS detector_name, d.model AS detector_model, d.revision AS detector_revision,
       d.prompt_revision, d.preprocessing_revision, d.dtype, d.quantization, d.fingerprint AS detector_fingerprint,
       f.reused_from, f.attempts, f.decided_at, f.verdict_id{more}
FROM findings f
LEFT JOIN verdicts v ON v.id = f.verdict_id
LEFT JOIN detectors d ON d.id = v.detector_id;
CREATE OR REPLACE VIEW flagged_findings AS
SELECT * FROM finding_details WHERE verdict = 'fake';
"""
# Because of a scan's thresholds, or of a calibration, a verdict may say the opposite of the text.
_CONTRADICTS = "v.contradicts OR (f.verdict IN ('fake', 'real') AND v.answer <> f.verdict)"
_MORE = ", v.answer, v.log_odds, v.cut_off"

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("detectors", sa.Column("description", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("verdicts", sa.Column("log_odds", sa.Float(), nullable=True))
    op.add_column("verdicts", sa.Column("cut_off", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    # New columns come last, so that grants stay, and so do views that others built on these views.
    op.execute(_DETAILS.format(contradicts=_CONTRADICTS, more=_MORE))


def downgrade() -> None:
    op.execute("DROP VIEW flagged_findings")
    op.execute("DROP VIEW finding_details")
    op.execute(_DETAILS.format(contradicts="v.contradicts", more=""))
    op.drop_column("verdicts", "cut_off")
    op.drop_column("verdicts", "log_odds")
    op.drop_column("detectors", "description")
