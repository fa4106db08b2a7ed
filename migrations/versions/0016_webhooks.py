"""Webhooks: who is told of what, and an outbox of what is still to be sent.

Triggers write the outbox in the transaction that causes a message, whichever program or release that is. While no
endpoint wants a kind, they read one row of a small table and write nothing.

Additive: the release before fires the triggers, and reads none of it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
works_from = "0013"

_WANTS = "e.disabled_at IS NULL AND {kind} = ANY (e.kinds)"
# The foreign key would wait for a transaction that removes the endpoint, and then fail. An endpoint that somebody
# removes at this moment wants nothing any more.
_NOT_REMOVED = "FOR KEY SHARE OF e SKIP LOCKED"
_POLICY = "jsonb_build_object('fake_from', s.policy->'fake_from', 'real_to', s.policy->'real_to')"

# `jit` is off as in the other triggers on `findings` (docs/decisions/0017). The detector is looked up by the verdict's
# id, because for a join the planner would read all verdicts.
_FINDINGS = f"""
CREATE FUNCTION findings_to_outbox() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET jit = off AS $$
BEGIN
    IF EXISTS (SELECT FROM webhook_endpoints e WHERE {_WANTS.format(kind="'finding.flagged'")}) THEN
        INSERT INTO outbox (endpoint_id, kind, subject, data)
        SELECT e.id, 'finding.flagged', coalesce(f.sha256, f.uri), jsonb_build_object(
            'scan_id', f.scan_id, 'uri', f.uri, 'external_id', f.external_id, 'sha256', f.sha256,
            'verdict', f.verdict, 'score', f.score, 'outcome', f.outcome, 'policy', {_POLICY},
            'detector', (SELECT d.name FROM detectors d
                         WHERE d.id = (SELECT v.detector_id FROM verdicts v WHERE v.id = f.verdict_id)))
        FROM added f
        JOIN scans s ON s.id = f.scan_id
        CROSS JOIN webhook_endpoints e
        WHERE f.verdict = 'fake' AND {_WANTS.format(kind="'finding.flagged'")}
        ORDER BY f.uri, e.id
        {_NOT_REMOVED};
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER to_outbox AFTER INSERT ON findings REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION findings_to_outbox();
"""  # noqa: S608 - constants of this file

# For a review and for a withdrawal. Triggers run in the order of their names, so those that count reviews ran before.
_REVIEWS = f"""
CREATE FUNCTION review_to_outbox() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET jit = off AS $$
BEGIN
    IF EXISTS (SELECT FROM webhook_endpoints e WHERE {_WANTS.format(kind="'review.decided'")}) THEN
        INSERT INTO outbox (endpoint_id, kind, subject, data)
        SELECT e.id, 'review.decided', r.sha256, jsonb_build_object(
            'sha256', r.sha256, 'scan_id', r.scan_id, 'uri', r.uri, 'verdict', r.verdict, 'score', r.score,
            'review_id', r.id, 'kind', r.kind, 'said', r.statement, 'withdrawn', TG_TABLE_NAME = 'withdrawals',
            'statement', c.statement, 'disputed', coalesce(c.disputed, false))
        FROM reviews r
        LEFT JOIN content_reviews c ON c.sha256 = r.sha256
        CROSS JOIN webhook_endpoints e
        WHERE r.id = (to_jsonb(NEW)->>TG_ARGV[0])::bigint AND r.sha256 IS NOT NULL
          AND {_WANTS.format(kind="'review.decided'")}
        ORDER BY e.id
        {_NOT_REMOVED};
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER to_outbox AFTER INSERT ON reviews FOR EACH ROW EXECUTE FUNCTION review_to_outbox('id');
CREATE TRIGGER to_outbox AFTER INSERT ON withdrawals FOR EACH ROW EXECUTE FUNCTION review_to_outbox('review_id');
"""  # noqa: S608 - constants of this file

# Deferred: a scan that is full may be found to wait for another image, and runs again in the same transaction.
_SCANS = f"""
CREATE FUNCTION scan_to_outbox() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET jit = off AS $$
BEGIN
    INSERT INTO outbox (endpoint_id, kind, subject, data)
    SELECT e.id, 'scan.' || s.status, s.id, jsonb_build_object(
        'scan_id', s.id, 'name', s.name, 'kind', s.kind, 'status', s.status, 'note', s.note, 'listed', s.listed,
        'skipped', s.skipped, 'judged', s.judged, 'reused', s.reused, 'unchanged', s.unchanged, 'failed', s.failed,
        'fake', s.fake, 'uncertain', s.uncertain, 'real', s.real, 'policy', {_POLICY})
    FROM scans s
    CROSS JOIN webhook_endpoints e
    WHERE s.id = NEW.id AND s.status = NEW.status AND {_WANTS.format(kind="'scan.' || s.status")}
    ORDER BY e.id
    {_NOT_REMOVED};
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER to_outbox AFTER UPDATE OF status ON scans DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status AND NEW.status IN ('done', 'paused')) EXECUTE FUNCTION scan_to_outbox();
"""  # noqa: S608 - constants of this file

# An event holds the host and not the url, whose path may be a secret. The sender disables an endpoint after a 410.
_ENDPOINTS = """
CREATE FUNCTION webhook_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    endpoint webhook_endpoints := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    INSERT INTO events (kind, subject, details)
    VALUES (CASE WHEN TG_OP = 'INSERT' THEN 'webhook_added' WHEN TG_OP = 'DELETE' THEN 'webhook_removed'
                 WHEN endpoint.disabled_at IS NULL THEN 'webhook_enabled' ELSE 'webhook_disabled' END, endpoint.name,
            jsonb_build_object('kinds', endpoint.kinds,
                               'host', substring(endpoint.url FROM '^[^:]+://([^/?]+)')));
    RETURN NULL;
END $$;
CREATE TRIGGER webhook_added AFTER INSERT OR DELETE ON webhook_endpoints
FOR EACH ROW EXECUTE FUNCTION webhook_changed();
CREATE TRIGGER webhook_disabled AFTER UPDATE OF disabled_at ON webhook_endpoints FOR EACH ROW
WHEN ((OLD.disabled_at IS NULL) <> (NEW.disabled_at IS NULL)) EXECUTE FUNCTION webhook_changed();
"""

_TRIGGERS = {
    "findings_to_outbox": ("findings",),
    "review_to_outbox": ("reviews", "withdrawals"),
    "scan_to_outbox": ("scans",),
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # In the order in which workers and reviewers lock them.
    op.execute("LOCK TABLE findings, reviews, withdrawals, scans IN SHARE ROW EXCLUSIVE MODE")
    _create_endpoints()
    _create_outbox()
    for statements in (_FINDINGS, _REVIEWS, _SCANS, _ENDPOINTS):
        op.execute(statements)
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar()
    for name in (*_TRIGGERS, "webhook_changed"):
        # As in 0007.
        op.execute(f"ALTER FUNCTION {name}() SET search_path = {schema}, pg_temp")
        op.execute(f"REVOKE ALL ON FUNCTION {name}() FROM PUBLIC")


def _create_endpoints() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("kinds", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
        sa.UniqueConstraint("name", name=op.f("uq_webhook_endpoints_name")),
    )


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("endpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("state", sa.String(length=16), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'delivered', 'dead')", name=op.f("ck_outbox_state")),
        sa.CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name=op.f("ck_outbox_ended")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name=op.f("fk_outbox_endpoint_id"), ondelete="CASCADE"
        ),
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index("uq_outbox_message", "outbox", ["endpoint_id", "message_id"], unique=True)
    op.create_index("ix_outbox_due", "outbox", ["endpoint_id", "due_at", "id"], postgresql_where=waiting)
    op.create_index("ix_outbox_subject", "outbox", ["endpoint_id", "subject", "id"], postgresql_where=waiting)
    dead = sa.text("state = 'dead'")
    op.create_index("ix_outbox_dead", "outbox", ["endpoint_id", "id"], postgresql_where=dead)
    op.create_index("ix_outbox_ended", "outbox", ["ended_at"], postgresql_where=sa.text("state <> 'waiting'"))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name, tables in _TRIGGERS.items():
        for table in tables:
            op.execute(f"DROP TRIGGER to_outbox ON {table}")
        op.execute(f"DROP FUNCTION {name}()")
    op.drop_table("outbox")
    op.drop_table("webhook_endpoints")
    op.execute("DROP FUNCTION webhook_changed()")
