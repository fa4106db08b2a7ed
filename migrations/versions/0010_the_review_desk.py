"""The review desk and the API: claims, second looks, logins, tokens.

Additive: the previous release neither reads nor writes these tables.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("reviewers", sa.Column("role", sa.String(length=8), server_default="reviewer", nullable=False))
    op.create_check_constraint(op.f("ck_reviewers_role"), "reviewers", "role IN ('reviewer', 'lead', 'admin')")
    _create_desk()
    _create_access()


def _create_desk() -> None:
    """Creates the tables that say who works on which content."""
    op.create_table(
        "claims",
        _sha256(),
        sa.Column("id", sa.Uuid(), nullable=False),
        _reviewer(),
        _time("since"),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_claims")),
        sa.ForeignKeyConstraint(["reviewer"], ["reviewers.name"], name=op.f("fk_claims_reviewer")),
    )
    op.create_index(op.f("ix_claims_reviewer"), "claims", ["reviewer"])
    op.create_table(
        "skips",
        _reviewer(),
        _sha256(),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("reviewer", "sha256", name=op.f("pk_skips")),
        sa.ForeignKeyConstraint(["reviewer"], ["reviewers.name"], name=op.f("fk_skips_reviewer")),
    )
    op.create_table(
        "second_looks",
        _sha256(),
        sa.Column("first_reviewer", sa.Text(), nullable=False),
        _time("wanted_at"),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_second_looks")),
        sa.ForeignKeyConstraint(["first_reviewer"], ["reviewers.name"], name=op.f("fk_second_looks_first_reviewer")),
    )
    op.create_index(op.f("ix_second_looks_wanted_at"), "second_looks", ["wanted_at"])


def _create_access() -> None:
    """Creates the tables of logins, tokens and repeated requests."""
    op.create_table(
        "logins",
        sa.Column("identity", sa.Text(), nullable=False),
        _reviewer(),
        _time("created_at"),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_logins")),
        sa.ForeignKeyConstraint(["reviewer"], ["reviewers.name"], name=op.f("fk_logins_reviewer")),
    )
    op.create_index(op.f("ix_logins_reviewer"), "logins", ["reviewer"])
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=True),
        _time("created_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("name", name=op.f("uq_api_tokens_name")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_api_tokens_token_sha256")),
        sa.ForeignKeyConstraint(["reviewer"], ["reviewers.name"], name=op.f("fk_api_tokens_reviewer")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("token_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        _time("created_at"),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("token_id", "key", name=op.f("pk_idempotency_keys")),
        sa.ForeignKeyConstraint(["token_id"], ["api_tokens.id"], name=op.f("fk_idempotency_keys_token_id")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])


def _sha256() -> sa.Column[str]:
    return sa.Column("sha256", sa.String(length=64), nullable=False)


def _reviewer() -> sa.Column[str]:
    return sa.Column("reviewer", sa.Text(), nullable=False)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def downgrade() -> None:
    for table in ("idempotency_keys", "api_tokens", "logins", "second_looks", "skips", "claims"):
        op.drop_table(table)
    op.drop_constraint(op.f("ck_reviewers_role"), "reviewers")
    op.drop_column("reviewers", "role")
