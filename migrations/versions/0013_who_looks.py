"""The table of who has the page of a content open now.

Additive: the previous release neither reads nor writes it. It is unlogged: if a crash empties it, the open pages write
their rows again within a minute.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "looks",
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("reviewer", "sha256", name=op.f("pk_looks")),
        sa.ForeignKeyConstraint(["reviewer"], ["reviewers.name"], name=op.f("fk_looks_reviewer")),
        prefixes=["UNLOGGED"],
    )
    op.create_index(op.f("ix_looks_sha256"), "looks", ["sha256"])


def downgrade() -> None:
    op.drop_table("looks")
