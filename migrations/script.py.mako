"""${message}

Rules: a revision in versions/ only adds, and one in after/ removes what only older releases use. An index on `findings`
is made by migrations.concurrently, in a revision of its own. A migration waits for a lock for at most 5 s, so that it
cannot stop the workers.

Revision: ${up_revision}, after ${down_revision}, made ${create_date}
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None
works_from = ${repr(down_revision)}  # the oldest release that works with this schema, named by its newest revision


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
