"""Functions for roles that own nothing: they make and drop partitions of `findings`. Triggers that prevent mistakes.

Only an owner may attach or detach a partition. Workers and producers call these functions, which run with the rights of
their owner and check their arguments: see worker/grants.py.

Additive: a worker of the previous release continues to work if it connects as the owner.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The lock and the two checks are those of worker/database/partitions.py in the previous release.
_ENSURE = f"""
CREATE FUNCTION ensure_findings_partition(wanted text) RETURNS void LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
DECLARE
    name text := 'findings_' || wanted;
BEGIN
    IF wanted !~ '^(scan_[0-9a-f]{{32}}|live_[0-9]{{4}}_[0-9]{{2}})$' THEN
        RAISE EXCEPTION '% is no name of a partition', wanted USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM pg_class WHERE relname = name AND relnamespace = current_schema()::regnamespace) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock({0x46414B45});
    IF EXISTS (SELECT FROM pg_class WHERE relname = name AND relnamespace = current_schema()::regnamespace) THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE findings INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    EXECUTE format('ALTER TABLE %I ADD CHECK (partition = %L)', name, wanted);
    EXECUTE format('ALTER TABLE findings ATTACH PARTITION %I FOR VALUES IN (%L)', name, wanted);
END $$;
"""  # noqa: S608 - a constant of this file

_DROP = """
CREATE FUNCTION drop_findings_partition(wanted text) RETURNS void LANGUAGE plpgsql STRICT SECURITY DEFINER AS $$
DECLARE
    name text := 'findings_' || wanted;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                   WHERE inhparent = 'findings'::regclass AND relname = name) THEN
        RAISE EXCEPTION '% is no partition of findings', wanted USING ERRCODE = 'undefined_table';
    END IF;
    IF EXISTS (SELECT FROM scans s WHERE s.partition = wanted
               AND (s.dropped_at IS NULL OR s.kind = 'scan' AND s.status NOT IN ('done', 'cancelled')))
       OR NOT EXISTS (SELECT FROM scans s WHERE s.partition = wanted) THEN
        RAISE EXCEPTION 'the findings of % are not to be dropped: a scan of it is not over', wanted
        USING ERRCODE = 'insufficient_privilege';
    END IF;
    EXECUTE format('ALTER TABLE findings DETACH PARTITION %I', name);
    EXECUTE format('DROP TABLE %I', name);
END $$;
"""

# Not SECURITY DEFINER, because it checks which role deletes.
_KEEP = """
CREATE FUNCTION findings_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM removed r WHERE r.outcome <> 'failed'
               AND NOT EXISTS (SELECT FROM scans s WHERE s.id = r.scan_id AND s.dropped_at IS NOT NULL)) THEN
        RAISE EXCEPTION 'only failed findings, and those of a scan that is dropped, may be deleted'
        USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER findings_kept AFTER DELETE ON findings REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION findings_kept();
"""

_APPEND_ONLY = ("verdicts", "reviews")

# A role that may execute such a function can also make it the trigger of its own table, and give it invented rows.
_OF_OWNER = ("findings_added()", "findings_removed()", "review_checked()", "review_stands()", "contents_added()")
_CALLED = ("ensure_findings_partition(text)", "drop_findings_partition(text)")
_OF_CALLER = ("findings_kept()",)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Locks the tables in the same order as workers. Otherwise, both could wait for each other for ever.
    op.execute("LOCK TABLE verdicts, findings, reviews IN SHARE ROW EXCLUSIVE MODE")
    for function in (_ENSURE, _DROP, _KEEP):
        op.execute(function)
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar()
    for name in (*_OF_OWNER, *_CALLED, *_OF_CALLER):
        # pg_temp comes last, so that a temporary table of the caller cannot replace one of our tables.
        op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
    for name in (*_OF_OWNER, *_CALLED):
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE verdicts, findings, reviews IN ACCESS EXCLUSIVE MODE")
    for table in _APPEND_ONLY:
        op.execute(f"DROP TRIGGER append_only_truncate ON {table}")
    op.execute("DROP TRIGGER findings_kept ON findings")
    op.execute("DROP FUNCTION findings_kept")
    for name in _CALLED:
        op.execute(f"DROP FUNCTION {name}")
    for name in _OF_OWNER:
        op.execute(f"ALTER FUNCTION {name} SET search_path FROM CURRENT")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO PUBLIC")
