"""What contents say about their own origin: C2PA manifests, IPTC fields, generators, cameras.

Additive: the release before reads and writes nothing of it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
works_from = "0013"

# A content has a row for each revision of the reader. The newest one counts. `says` is left out, because it may hold
# prompts and names of people.
_VIEW = """
CREATE VIEW content_provenance AS
SELECT DISTINCT ON (sha256) sha256, c2pa, declared, signer, source_type, generator, camera, revision, read_at
FROM provenance
ORDER BY sha256, read_at DESC, revision
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "provenance",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.String(length=32), nullable=False),
        sa.Column("c2pa", sa.String(length=16), nullable=False),
        sa.Column("declared", sa.String(length=16), nullable=True),
        sa.Column("signer", sa.Text(), nullable=True),
        sa.Column("source_type", sa.Text(), nullable=True),
        sa.Column("generator", sa.Text(), nullable=True),
        sa.Column("camera", sa.Text(), nullable=True),
        sa.Column("says", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("read_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "revision", name=op.f("pk_provenance")),
    )
    op.create_index(
        op.f("ix_provenance_declared"),
        "provenance",
        ["declared"],
        postgresql_where=sa.text("declared IS NOT NULL"),
    )
    op.execute(_VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW content_provenance")
    op.drop_table("provenance")
