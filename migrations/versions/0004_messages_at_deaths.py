"""Messages on which a worker was working when it died: `message_tries`.

Additive: a worker of the previous release does not look at the table. The migration also removes the rows of `suspects`
that such a worker left behind.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "message_tries",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_message_tries")),
    )
    op.execute("DELETE FROM suspects WHERE tries <= 0")


def downgrade() -> None:
    op.drop_table("message_tries")
