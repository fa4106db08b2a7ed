"""Who did what: events, what made a verdict, and the failures that were judged again.

Triggers write most events, so that no program can forget one, and the release before writes them too. The function
record_event writes those that no trigger sees. All three tables are append-only.

Additive: the release before names no maker in its verdicts, and the triggers do the rest.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
works_from = "0013"

_ACTOR = "coalesce(nullif(left(current_setting('fakesweep.actor', true), 200), ''), SESSION_USER)"

# Programs may record only what no trigger sees. Otherwise they could invent a pause or a token. What only the owner
# does, only the owner records.
_RECORD = """
CREATE FUNCTION record_event(kind text, scan_id uuid, subject text, details jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    added bigint;
BEGIN
    IF kind NOT IN ('retried', 'roles_granted', 'retention', 'forgotten', 'audit_built') THEN
        RAISE EXCEPTION 'only triggers write events of the kind %', kind USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- The function runs as the owner of the tables, who is therefore the current user.
    IF kind IN ('forgotten', 'roles_granted') AND NOT pg_has_role(SESSION_USER, current_user, 'MEMBER') THEN
        RAISE EXCEPTION 'only the owner records events of the kind %', kind USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO events (kind, scan_id, subject, details) VALUES (kind, scan_id, subject, details)
    RETURNING id INTO added;
    RETURN added;
END $$;
"""

# A submission is one message, and there may be millions: its start, its end and its retention are no events. A scan
# without a name has the name of its source, which may be the uri of one picture. Events are never deleted, so they do
# not have it: `forget` must be able to remove each uri.
_SUBJECT = "nullif(NEW.name, NEW.source)"
_SCAN_STARTED = f"""
CREATE FUNCTION scan_started() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO events (kind, scan_id, subject, details) VALUES ('scan_started', NEW.id, {_SUBJECT}, jsonb_build_object(
        'rejudge', NEW.rejudge, 'record', NEW.record, 'schedule', NEW.schedule,
        'max_flagged_share', NEW.max_flagged_share, 'max_failed_share', NEW.max_failed_share));
    RETURN NULL;
END $$;
CREATE TRIGGER scan_started AFTER INSERT ON scans FOR EACH ROW WHEN (NEW.kind = 'scan')
EXECUTE FUNCTION scan_started();
"""  # noqa: S608 - a constant of this file

# The trigger waits for the end of the transaction, because a scan may become done and running again in one transaction,
# when a repair still waits for an image. Workers update counters all the time: these are not among the columns.
# A scan that was paused while it was repaired becomes `repairing` again when it is resumed, but its cursor stays.
_SCAN_CHANGED = f"""
CREATE FUNCTION scan_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    started_again boolean := NEW.status = 'repairing' AND (
        OLD.status NOT IN ('repairing', 'paused')
        OR OLD.status = 'paused' AND OLD.paused_from IS DISTINCT FROM 'repairing'
        OR OLD.cursor IS NOT NULL AND NEW.cursor IS NULL);
BEGIN
    IF OLD.max_flagged_share IS DISTINCT FROM NEW.max_flagged_share
       OR OLD.max_failed_share IS DISTINCT FROM NEW.max_failed_share THEN
        INSERT INTO events (kind, scan_id, subject, details) VALUES ('limits_changed', NEW.id, {_SUBJECT},
            jsonb_build_object('max_flagged_share', NEW.max_flagged_share, 'max_failed_share', NEW.max_failed_share,
                               'before', jsonb_build_object('max_flagged_share', OLD.max_flagged_share,
                                                            'max_failed_share', OLD.max_failed_share)));
    END IF;
    IF started_again THEN
        INSERT INTO events (kind, scan_id, subject) VALUES ('scan_repaired', NEW.id, {_SUBJECT});
    ELSIF OLD.status IS DISTINCT FROM NEW.status THEN
        IF NEW.status IN ('paused', 'cancelled') THEN
            INSERT INTO events (kind, scan_id, subject, details)
            VALUES ('scan_' || NEW.status, NEW.id, {_SUBJECT},
                    jsonb_build_object('note', NEW.note, 'was', OLD.status));
        ELSIF OLD.status = 'paused' THEN
            INSERT INTO events (kind, scan_id, subject) VALUES ('scan_resumed', NEW.id, {_SUBJECT});
        ELSIF NEW.status = 'done' AND NEW.kind = 'scan'
              AND EXISTS (SELECT FROM scans s WHERE s.id = NEW.id AND s.status = 'done') THEN
            INSERT INTO events (kind, scan_id, subject, details) VALUES ('scan_done', NEW.id, {_SUBJECT},
                jsonb_build_object('listed', NEW.listed, 'fake', NEW.fake, 'failed', NEW.failed));
        END IF;
    END IF;
    IF OLD.dropped_at IS NULL AND NEW.dropped_at IS NOT NULL AND NEW.kind = 'scan' THEN
        INSERT INTO events (kind, scan_id, subject) VALUES ('scan_dropped', NEW.id, {_SUBJECT});
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER scan_changed
AFTER UPDATE OF status, cursor, max_flagged_share, max_failed_share, dropped_at ON scans
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (OLD.status IS DISTINCT FROM NEW.status
      OR OLD.max_flagged_share IS DISTINCT FROM NEW.max_flagged_share
      OR OLD.max_failed_share IS DISTINCT FROM NEW.max_failed_share
      OR OLD.dropped_at IS DISTINCT FROM NEW.dropped_at
      OR NEW.status = 'repairing' AND OLD.cursor IS NOT NULL AND NEW.cursor IS NULL)
EXECUTE FUNCTION scan_changed();
"""  # noqa: S608 - likewise

# An event never holds a login's identity: the table is kept for ever, and `reviewer unlink` promises that nothing links
# a pseudonym with a person.
_ACCESS = """
CREATE FUNCTION token_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO events (kind, subject, details)
    VALUES (CASE TG_OP WHEN 'INSERT' THEN 'token_added' ELSE 'token_withdrawn' END, NEW.name,
            jsonb_build_object('scopes', NEW.scopes, 'reviewer', NEW.reviewer, 'expires_at', NEW.expires_at));
    RETURN NULL;
END $$;
CREATE TRIGGER token_added AFTER INSERT ON api_tokens FOR EACH ROW EXECUTE FUNCTION token_changed();
CREATE TRIGGER token_withdrawn AFTER UPDATE OF withdrawn_at ON api_tokens FOR EACH ROW
WHEN (OLD.withdrawn_at IS NULL AND NEW.withdrawn_at IS NOT NULL) EXECUTE FUNCTION token_changed();

CREATE FUNCTION reviewer_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO events (kind, subject, details)
    VALUES (CASE TG_OP WHEN 'INSERT' THEN 'reviewer_added' ELSE 'reviewer_changed' END, NEW.name,
            jsonb_build_object('role', NEW.role, 'active', NEW.active));
    RETURN NULL;
END $$;
CREATE TRIGGER reviewer_added AFTER INSERT ON reviewers FOR EACH ROW EXECUTE FUNCTION reviewer_changed();
CREATE TRIGGER reviewer_changed AFTER UPDATE OF role, active ON reviewers FOR EACH ROW
WHEN ((OLD.role, OLD.active) IS DISTINCT FROM (NEW.role, NEW.active)) EXECUTE FUNCTION reviewer_changed();

CREATE FUNCTION login_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO events (kind, subject) VALUES ('login_removed', OLD.reviewer);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO events (kind, subject) VALUES ('login_added', NEW.reviewer);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER login_changed AFTER INSERT OR UPDATE OR DELETE ON logins FOR EACH ROW EXECUTE FUNCTION login_changed();
"""

# A worker sets `started_at` when it starts. The detector that started last is the one whose verdicts are reused, so
# starting another one than before is a change.
_DETECTOR = """
CREATE FUNCTION detector_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NOT EXISTS (SELECT FROM detectors d WHERE d.id <> NEW.id
                                         AND d.started_at > coalesce(OLD.started_at, '-infinity'))
    THEN
        RETURN NULL;
    END IF;
    INSERT INTO events (kind, subject, details)
    VALUES (CASE TG_OP WHEN 'INSERT' THEN 'detector_added' ELSE 'detector_changed' END, NEW.name,
            jsonb_build_object('detector_id', NEW.id, 'fingerprint', NEW.fingerprint, 'model', NEW.model,
                               'revision', NEW.revision));
    RETURN NULL;
END $$;
CREATE TRIGGER detector_added AFTER INSERT ON detectors FOR EACH ROW EXECUTE FUNCTION detector_changed();
CREATE TRIGGER detector_changed AFTER UPDATE OF started_at ON detectors FOR EACH ROW
WHEN (OLD.started_at IS DISTINCT FROM NEW.started_at) EXECUTE FUNCTION detector_changed();
"""

# When retention drops the findings of a scan, it marks the scan first. Dropping a partition fires no trigger.
_REPLACED = """
CREATE FUNCTION failures_replaced() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET jit = off AS $$
BEGIN
    INSERT INTO replaced_failures (scan_id, uri, sha256, reason, detail, attempts, decided_at)
    SELECT r.scan_id, r.uri, r.sha256, r.reason, r.detail, r.attempts, r.decided_at
    FROM removed r
    WHERE r.outcome = 'failed'
      AND NOT EXISTS (SELECT FROM scans s WHERE s.id = r.scan_id AND s.dropped_at IS NOT NULL)
    ORDER BY r.uri COLLATE "C";
    RETURN NULL;
END $$;
CREATE TRIGGER failures_replaced AFTER DELETE ON findings REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION failures_replaced();
"""

_VIEW = """
CREATE VIEW event_log AS
SELECT e.id, e.at, e.kind, e.actor, e.login, e.scan_id,
       (SELECT s.name FROM scans s WHERE s.id = e.scan_id) AS scan_name, e.subject, e.details
FROM events e
"""

# As in 0002, new columns come last. `flagged_findings` has the same columns.
_DETAILS = """
CREATE OR REPLACE VIEW finding_details AS
SELECT f.partition, f.scan_id, f.uri, f.external_id, f.outcome, f.verdict, f.score, v.explanation,
       coalesce(v.contradicts OR (f.verdict IN ('fake', 'real') AND v.answer <> f.verdict), false) AS contradicts,
       f.reason, f.detail, f.etag, f.sha256, f.width, f.height,
       d.name AS detector_name, d.model AS detector_model, d.revision AS detector_revision,
       d.prompt_revision, d.preprocessing_revision, d.dtype, d.quantization, d.fingerprint AS detector_fingerprint,
       f.reused_from, f.attempts, f.decided_at, f.verdict_id, v.answer, v.log_odds, v.cut_off{more}
FROM findings f
LEFT JOIN verdicts v ON v.id = f.verdict_id
LEFT JOIN detectors d ON d.id = v.detector_id{join};
CREATE OR REPLACE VIEW flagged_findings AS
SELECT * FROM finding_details WHERE verdict = 'fake';
"""
_MAKER = ("release", "engine", "vllm", "torch", "transformers", "driver", "card")
_MORE = ", v.maker_id" + "".join(f", m.{name} AS maker_{name}" for name in _MAKER)
_JOIN = "\nLEFT JOIN makers m ON m.id = v.maker_id"

_OWNER = "SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = 'finding_details'::regclass"

_APPEND_ONLY = ("events", "makers", "replaced_failures")
_TRIGGERS = {
    "scan_started": "scans",
    "scan_changed": "scans",
    "token_added": "api_tokens",
    "token_withdrawn": "api_tokens",
    "reviewer_added": "reviewers",
    "reviewer_changed": "reviewers",
    "login_changed": "logins",
    "detector_added": "detectors",
    "detector_changed": "detectors",
    "failures_replaced": "findings",
}
_OF_OWNER = (
    "scan_started()",
    "scan_changed()",
    "token_changed()",
    "reviewer_changed()",
    "login_changed()",
    "detector_changed()",
    "failures_replaced()",
    "record_event(text, uuid, text, jsonb)",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _create_tables()
    # Locks the tables in the same order as workers. A foreign key to `makers` would lock the maker's row for each
    # verdict, and all workers of a kind share that row.
    op.execute("LOCK TABLE verdicts IN ACCESS EXCLUSIVE MODE")
    op.execute("LOCK TABLE findings, scans IN SHARE ROW EXCLUSIVE MODE")
    op.add_column("verdicts", sa.Column("maker_id", sa.BigInteger(), nullable=True))
    for sql in (_RECORD, _SCAN_STARTED, _SCAN_CHANGED, _ACCESS, _DETECTOR, _REPLACED, _VIEW):
        op.execute(sql)
    op.execute(_DETAILS.format(more=_MORE, join=_JOIN))
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar()
    for name in _OF_OWNER:
        # As in 0007.
        op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def _create_tables() -> None:
    op.create_table(
        "events",
        _id(),
        _time("at"),
        sa.Column("kind", sa.String(length=32), nullable=False),
        _text("actor", nullable=False, server_default=sa.text(_ACTOR)),
        _text("login", nullable=False, server_default=sa.text("SESSION_USER")),
        sa.Column("scan_id", sa.Uuid(), nullable=True),
        _text("subject"),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_at"), "events", ["at"])
    op.create_index("ix_events_scan_id", "events", ["scan_id", "id"], postgresql_where=sa.text("scan_id IS NOT NULL"))
    op.create_table(
        "makers",
        _id(),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        _text("release", nullable=False),
        _text("engine", nullable=False),
        *(_text(name) for name in ("vllm", "torch", "transformers", "driver", "card")),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_makers")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_makers_fingerprint")),
    )
    op.create_table(
        "replaced_failures",
        _id(),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        _text("uri", nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=False),
        _text("detail"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        _time("replaced_at"),
        _text("actor", nullable=False, server_default=sa.text(_ACTOR)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replaced_failures")),
    )
    op.create_index(op.f("ix_replaced_failures_uri"), "replaced_failures", ["uri"])
    op.create_index(op.f("ix_replaced_failures_scan_id"), "replaced_failures", ["scan_id"])


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _text(name: str, *, nullable: bool = True, server_default: sa.TextClause | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable, server_default=server_default)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE verdicts, findings, scans IN ACCESS EXCLUSIVE MODE")
    for trigger, table in _TRIGGERS.items():
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    for name in _OF_OWNER:
        op.execute(f"DROP FUNCTION {name}")
    # The owner of the views may be another login than the one that goes back, and must be able to migrate again.
    owner = op.get_bind().execute(sa.text(_OWNER)).scalar()
    for view in ("event_log", "flagged_findings", "finding_details"):
        op.execute(f"DROP VIEW {view}")
    op.execute(_DETAILS.format(more="", join=""))
    for view in ("finding_details", "flagged_findings"):
        op.execute(f"ALTER VIEW {view} OWNER TO {owner}")
    op.drop_column("verdicts", "maker_id")
    for table in _APPEND_ONLY:
        op.drop_table(table)
