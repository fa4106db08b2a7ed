"""Which stage of a cascade gave a verdict, and what its first stage said.

Additive: the release before writes neither column, and reads verdicts without them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None
works_from = "0013"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("verdicts", sa.Column("stage", sa.String(length=8), nullable=True))
    op.add_column("verdicts", sa.Column("first_score", sa.Float(), nullable=True))
    # Not valid: old rows have no stage, and a check of them all would make writers wait.
    op.create_check_constraint(
        op.f("ck_verdicts_stage"), "verdicts", "stage IN ('first', 'judge', 'audit')", postgresql_not_valid=True
    )


def downgrade() -> None:
    op.drop_column("verdicts", "first_score")
    op.drop_column("verdicts", "stage")
