"""How many second opinions are missing for unchanged images of a scan. They have no finding that could show it.

Additive: the release before publishes such images, so it has nothing to count here.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None
works_from = "0013"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column(
        "scans", sa.Column("unchanged_missing_opinions", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("scans", "unchanged_missing_opinions")
