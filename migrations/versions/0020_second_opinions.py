"""Second opinions: what further detectors say about a finding, on which images detectors differ, and their place in the
review queue. Its indexes are in 0022.

Additive: the release before writes no opinions, and its findings fire the new triggers without effect.
"""

import re

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None
works_from = "0013"

# Plain expressions, so that the planner puts them in place of the call.
_FUNCTIONS = """
CREATE FUNCTION detectors_differ(verdict text, opinions jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT opinions IS NOT NULL AND verdict IS NOT NULL
       AND (verdict = 'fake' OR opinions @> '[{"verdict": "fake"}]')
       AND (verdict = 'real' OR opinions @> '[{"verdict": "real"}]')
$$;
"""

# A row of second_opinions is a finding with a verdict and a further detector that its scan asks for. The scan names
# detectors; the opinion names the row of `detectors` that gave it. detectors_differ() is written out for the planner.
_VIEWS = """
CREATE VIEW second_opinions AS
SELECT f.partition, f.scan_id, s.name AS scan_name, f.uri, f.external_id, f.sha256, f.verdict, f.score, f.verdict_id,
       (SELECT d.name FROM verdicts v JOIN detectors d ON d.id = v.detector_id WHERE v.id = f.verdict_id)
           AS detector_name,
       asked.name AS further_name, (said.one ->> 'detector_id')::bigint AS further_id,
       said.one ->> 'verdict' AS further_verdict, (said.one ->> 'score')::float AS further_score,
       (said.one ->> 'verdict_id')::bigint AS further_verdict_id, said.one IS NULL AS missing,
       coalesce((f.verdict, said.one ->> 'verdict') IN (('fake', 'real'), ('real', 'fake')), false) AS differs,
       coalesce(f.verdict <> said.one ->> 'verdict', false) AS differs_at_all, f.decided_at
FROM scans s
JOIN findings f ON f.partition = s.partition AND f.scan_id = s.id
CROSS JOIN LATERAL jsonb_array_elements_text(s.policy -> 'also') WITH ORDINALITY asked (name, n)
LEFT JOIN LATERAL (
    SELECT opinion AS one FROM jsonb_array_elements(f.opinions) opinion
    WHERE (SELECT d.name FROM detectors d WHERE d.id = (opinion ->> 'detector_id')::bigint) = asked.name
    LIMIT 1
) said ON true
WHERE s.policy ? 'also' AND f.verdict IS NOT NULL;
CREATE VIEW disagreements AS
SELECT f.partition, f.scan_id, s.name AS scan_name, f.uri, f.external_id, f.sha256, f.verdict, f.score, f.verdict_id,
       (SELECT d.name FROM verdicts v JOIN detectors d ON d.id = v.detector_id WHERE v.id = f.verdict_id)
           AS detector_name,
       f.opinions, f.decided_at
FROM scans s
JOIN findings f ON f.partition = s.partition AND f.scan_id = s.id
WHERE s.policy ? 'also' AND detectors_differ(f.verdict, f.opinions);
"""

# A content that its main detector calls real has no row of `contents`. If a further detector calls it fake, it gets a
# row as if that detector had found it: it waits for a person like any other content. The newest finding decides.
_MISSED = """
    SELECT DISTINCT ON (f.sha256, o ->> 'detector_id') f.sha256, f.uri, f.scan_id, f.decided_at,
           (o ->> 'detector_id')::bigint AS detector_id,
           (o ->> 'score')::float AS score, (o ->> 'verdict_id')::bigint AS verdict_id
    FROM added f CROSS JOIN LATERAL jsonb_array_elements(f.opinions) o
    WHERE f.verdict = 'real' AND f.opinions @> '[{"verdict": "fake"}]' AND o ->> 'verdict' = 'fake'
      AND o ? 'verdict_id'
    ORDER BY f.sha256, o ->> 'detector_id', f.decided_at DESC, (o ->> 'score')::float DESC, f.uri
"""
_GUARD = "IF EXISTS (SELECT FROM added WHERE opinions IS NOT NULL AND opinions <> '[]') THEN"
# Nearly always, no content of a statement has such a row. It is checked for one content at a time, as in 0009.
_KNOWN_AS_MISSED = """EXISTS (SELECT FROM contents k WHERE k.sha256 = f.sha256 AND k.missed OFFSET 0)"""

# As in findings_added(): a transaction takes the lock of a content before it adds a row of `contents`, or takes back
# that one is superseded. A further detector shares the lock like the main one, because both judge in one transaction.
_LOCKED = f"""
CREATE FUNCTION opinions_locked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET jit = off SET enable_seqscan = off AS $$
BEGIN
    {_GUARD}
        PERFORM pg_advisory_xact_lock_shared({{lock}}, key)
        FROM (SELECT DISTINCT hashtext(missed.sha256) & 4095 AS key FROM ({_MISSED}) missed ORDER BY 1) AS ordered;
    END IF;
    IF EXISTS (SELECT FROM added f WHERE f.verdict IS NOT NULL AND {_KNOWN_AS_MISSED}) THEN
        PERFORM pg_advisory_xact_lock_shared({{lock}}, key)
        FROM (SELECT DISTINCT hashtext(f.sha256) & 4095 AS key FROM added f
              WHERE f.verdict IS NOT NULL AND {_KNOWN_AS_MISSED} ORDER BY 1) AS ordered;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER finding_opinions_locked AFTER INSERT ON findings REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION opinions_locked();
"""  # noqa: S608 - constants of this file
# Its trigger comes after findings_added: triggers of a table fire in the order of their names. Rows of contents that
# are fake or uncertain are locked by then, because findings_added has just changed them.
#
# An opinion that is missing says nothing. So only a finding with all opinions may say that detectors agree, and only a
# newer opinion, or a newer verdict of the same detector, takes back `missed`. findings_added does not know opinions: it
# marks the row of a further detector as superseded by each finding of the main one. The last statement corrects this:
# of the rows of a content, one waits. It is that of the main detector if that one does not say real, or else the most
# severe missed one.
_DIFFER = f"""
CREATE FUNCTION findings_differ() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET jit = off SET enable_seqscan = off AS $$
BEGIN
    {_GUARD}
        UPDATE contents c
        SET differs = f.differs
        FROM (SELECT DISTINCT ON (a.sha256) a.sha256, detectors_differ(a.verdict, a.opinions) AS differs,
                     jsonb_array_length(a.opinions) = jsonb_array_length(s.policy -> 'also') AS complete
              FROM added a JOIN scans s ON s.id = a.scan_id
              WHERE a.opinions IS NOT NULL AND a.verdict <> 'real'
              ORDER BY a.sha256, a.decided_at DESC, a.uri) f
        WHERE c.sha256 = f.sha256 AND NOT c.superseded AND c.differs <> f.differs AND (f.differs OR f.complete);
        UPDATE contents c
        SET missed = false
        FROM (SELECT DISTINCT ON (f.sha256, o ->> 'detector_id') f.sha256,
                     (o ->> 'detector_id')::bigint AS detector_id, o ->> 'verdict' AS verdict
              FROM added f CROSS JOIN LATERAL jsonb_array_elements(f.opinions) o
              WHERE f.verdict IS NOT NULL
              ORDER BY f.sha256, o ->> 'detector_id', f.decided_at DESC, f.uri) said
        WHERE c.sha256 = said.sha256 AND c.detector_id = said.detector_id AND c.missed AND said.verdict <> 'fake';
        WITH missed AS MATERIALIZED ({_MISSED}), place AS (
            INSERT INTO content_places (sha256, detector_id, uri)
            SELECT DISTINCT sha256, detector_id, uri FROM missed ORDER BY sha256, detector_id, uri
            ON CONFLICT DO NOTHING
            RETURNING sha256, detector_id
        ), new_places AS (
            SELECT sha256, detector_id, count(*) AS places FROM place GROUP BY sha256, detector_id
        )
        INSERT INTO contents AS kept
            (sha256, detector_id, verdict, score, verdict_id, uri, scan_id, first_at, last_at, places,
             first_flagged_at, first_flagged_uri, first_flagged_scan_id,
             last_flagged_at, last_flagged_uri, last_flagged_scan_id, differs, missed)
        SELECT sha256, detector_id, 'fake', score, verdict_id, uri, scan_id, decided_at, decided_at,
               coalesce(places, 0), decided_at, uri, scan_id, decided_at, uri, scan_id, true, true
        FROM missed LEFT JOIN new_places USING (sha256, detector_id)
        ORDER BY sha256, detector_id
        ON CONFLICT (sha256, detector_id) DO UPDATE
        SET verdict = 'fake', score = excluded.score, verdict_id = excluded.verdict_id, uri = excluded.uri,
            scan_id = excluded.scan_id, last_at = excluded.last_at, superseded = false, differs = true, missed = true,
            places = kept.places + excluded.places,
            first_flagged_at = coalesce(kept.first_flagged_at, excluded.first_flagged_at),
            first_flagged_uri = coalesce(kept.first_flagged_uri, excluded.first_flagged_uri),
            first_flagged_scan_id = coalesce(kept.first_flagged_scan_id, excluded.first_flagged_scan_id),
            last_flagged_at = excluded.last_flagged_at, last_flagged_uri = excluded.last_flagged_uri,
            last_flagged_scan_id = excluded.last_flagged_scan_id;
    END IF;
    IF EXISTS (SELECT FROM added f WHERE f.verdict IS NOT NULL AND {_KNOWN_AS_MISSED}) THEN
        UPDATE contents c
        SET missed = false
        FROM (SELECT f.sha256, (SELECT v.detector_id FROM verdicts v WHERE v.id = f.verdict_id) AS detector_id
              FROM added f WHERE f.verdict IS NOT NULL) own
        WHERE c.sha256 = own.sha256 AND c.detector_id = own.detector_id AND c.missed;
        UPDATE contents c
        SET superseded = c.detector_id <> waits.detector_id
        FROM (SELECT DISTINCT ON (k.sha256) k.sha256, k.detector_id
              FROM (SELECT DISTINCT f.sha256 FROM added f WHERE f.verdict IS NOT NULL AND {_KNOWN_AS_MISSED}) f
              JOIN contents k ON k.sha256 = f.sha256
              WHERE k.verdict <> 'real' AND (k.missed OR NOT k.superseded)
              ORDER BY k.sha256, k.missed, k.score DESC NULLS LAST, k.detector_id) waits
        WHERE c.sha256 = waits.sha256 AND c.missed AND c.superseded <> (c.detector_id <> waits.detector_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER findings_differ AFTER INSERT ON findings REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION findings_differ();
"""  # noqa: S608 - constants of this file
_OF_OWNER = ("opinions_locked()", "findings_differ()")

# A further detector must not lock contents alone: each new content would then make all workers wait.
_NOT_FURTHER = "NOT EXISTS (SELECT FROM detectors d WHERE d.id = detector_id AND d.also_at IS NOT NULL)"
_OF_OPINION = """ELSE coalesce((SELECT o ->> 'verdict' FROM jsonb_array_elements(found_there.opinions) o
                                          WHERE (o ->> 'verdict_id')::bigint = NEW.verdict_id LIMIT 1),
                                         verdict_under(of_scan.policy, seen.score)) END;"""
_NAMED = """(verdict <> 'real' OR opinions @> '[{"verdict": "fake"}]')"""
_CHANGES = {
    "contents_added": (
        ("bool_or(detector_id <> (SELECT", f"bool_or({_NOT_FURTHER} AND detector_id <> (SELECT"),
    ),
    # For the desk's filter: a content that only a further detector calls fake waits, too.
    "findings_named": (
        ("WHERE verdict <> 'real' AND external_id", f"WHERE {_NAMED} AND external_id"),
    ),
    # The verdict of a second opinion is by the thresholds of its own detector.
    "review_checked": (
        ("SELECT f.sha256, f.verdict_id, f.verdict INTO found_there",
         "SELECT f.sha256, f.verdict_id, f.verdict, f.opinions INTO found_there"),
        ("ELSE verdict_under(of_scan.policy, seen.score) END;", _OF_OPINION),
    ),
}  # fmt: skip
"""In a function: what is there, and what comes in its place."""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # Locks the tables in the same order as workers.
    op.execute("LOCK TABLE findings IN ACCESS EXCLUSIVE MODE")
    op.execute("LOCK TABLE contents IN ACCESS EXCLUSIVE MODE")
    op.add_column("findings", sa.Column("opinions", postgresql.JSONB(), nullable=True))
    op.add_column("contents", sa.Column("differs", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("contents", sa.Column("missed", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("detectors", sa.Column("also_at", sa.DateTime(timezone=True), nullable=True))
    connection = op.get_bind()
    added = str(connection.execute(sa.text("SELECT pg_get_functiondef('findings_added'::regproc)")).scalar())
    lock = re.findall(r"pg_advisory_xact_lock_shared\((\d+), key\)", added)[0]
    for sql in (_FUNCTIONS, _VIEWS, _LOCKED.replace("{lock}", lock), _DIFFER):
        connection.exec_driver_sql(sql.replace("%", "%%"))
    schema = connection.execute(sa.text("SELECT quote_ident(current_schema())")).scalar()
    for name in _OF_OWNER:
        # As in 0007.
        op.execute(f"ALTER FUNCTION {name} SET search_path = {schema}, pg_temp")
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    for function, changes in _CHANGES.items():
        for before, after in changes:
            _change(function, before, after)


def _change(function: str, before: str, after: str) -> None:
    """Replaces a part of a function, and leaves its settings as they are."""
    query = sa.text("SELECT pg_get_functiondef(CAST(:name AS regproc))")
    sql = str(op.get_bind().execute(query, {"name": function}).scalar())
    if sql.count(before) != 1:
        raise RuntimeError(f"the function {function} is not the one of revision 0018")
    op.get_bind().exec_driver_sql(sql.replace(before, after).replace("%", "%%"))


def downgrade() -> None:
    """Second opinions stay as verdicts. What a finding says about them goes."""
    for function, changes in _CHANGES.items():
        for before, after in changes:
            _change(function, after, before)
    op.execute("DROP VIEW disagreements")
    op.execute("DROP VIEW second_opinions")
    for trigger in ("findings_differ", "finding_opinions_locked"):
        op.execute(f"DROP TRIGGER {trigger} ON findings")
    for name in (*_OF_OWNER, "detectors_differ(text, jsonb)"):
        op.execute(f"DROP FUNCTION {name}")
    op.drop_column("detectors", "also_at")
    op.drop_column("contents", "missed")
    op.drop_column("contents", "differs")
    op.drop_column("findings", "opinions")
