"""${message}

Rules: additive first (a column is dropped one release after its last use); an index on a large table CONCURRENTLY;
a lock is waited for 5 s and not longer, so that a migration cannot stop the workers.

Revision: ${up_revision}, after ${down_revision}, made ${create_date}
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
