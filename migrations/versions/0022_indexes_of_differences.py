"""Indexes for the contents on which detectors differ, and for those that only a further detector calls fake.

They hold few rows, but to build them, Postgres reads all of `contents`. So nobody waits for them: see 0020.

Additive: the release before does not read them.
"""

from migrations.concurrently import create_index_on, drop_index_on

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None
works_from = "0013"

_WAITING = "verdict <> 'real' AND statement IS NULL AND NOT superseded"


def upgrade() -> None:
    create_index_on("contents", "ix_contents_differ",
                    f"(score DESC NULLS LAST, first_at) WHERE {_WAITING} AND differs")  # fmt: skip
    create_index_on("contents", "ix_contents_missed", "(sha256) WHERE missed")


def downgrade() -> None:
    """The review desk and the triggers read the whole table again."""
    drop_index_on("ix_contents_missed")
    drop_index_on("ix_contents_differ")
