"""What the stages of a cascade decided, by day and scan, and whether the audited sample breaks the promise.

A trigger on `findings` counts judged images by stage. For other detectors than cascades it writes nothing. It applies
the cascade's own thresholds to the scores, because a scan with its own would change the counts. An image that saw the
judge only because somebody asked for it is left out. The views of findings get the stage. docs/cascades.md explains the
alarm.

Additive: the previous release reads the same views, and its statements fire the same triggers.
"""

import importlib

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None
works_from = "0013"

# As in 0009: the verdict is looked up by its id, because for a join the planner would read all verdicts.
_STAGED = """
CREATE FUNCTION findings_staged() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT SET jit = off SET enable_seqscan = off AS $$
BEGIN
IF EXISTS (SELECT FROM added f WHERE f.outcome = 'judged'
           AND (SELECT v.stage FROM verdicts v WHERE v.id = f.verdict_id) IS NOT NULL) THEN
    INSERT INTO stages_daily AS kept (day, scan_id, detector_id, stage, flagged, shard, images)
    SELECT date_trunc('day', f.decided_at, 'UTC'),
           CASE WHEN s.kind = 'live' THEN '00000000-0000-0000-0000-000000000000'::uuid ELSE f.scan_id END,
           v.detector_id, v.stage,
           coalesce(v.score >= (d.description -> 'thresholds' ->> 'fake_from')::float, false),
           (pg_backend_pid() & 15)::smallint, count(*)
    FROM added f
    JOIN scans s ON s.id = f.scan_id
    CROSS JOIN LATERAL (SELECT o.detector_id, o.stage, o.score, o.first_score
                        FROM verdicts o WHERE o.id = f.verdict_id OFFSET 0) AS v
    JOIN detectors d ON d.id = v.detector_id
    WHERE f.outcome = 'judged' AND v.stage IS NOT NULL
      -- The first stage would have cleared these: the scan or a message asked for the judge.
      AND (v.stage <> 'judge' OR (v.first_score <= (d.description -> 'clear' ->> 'up_to')::float) IS NOT TRUE)
    GROUP BY 1, 2, 3, 4, 5, 6
    ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (day, scan_id, detector_id, stage, flagged, shard) DO UPDATE SET images = kept.images + excluded.images;
END IF;
RETURN NULL;
END $$;
CREATE TRIGGER staged AFTER INSERT ON findings REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION findings_staged();
"""

_AUDITS = """
CREATE VIEW cascade_audits AS
SELECT k.day, CASE WHEN s.id IS NULL THEN 'live' ELSE 'scan' END AS kind, s.id AS scan_id, s.name AS scan_name,
       k.detector_id, d.name AS detector_name,
       coalesce(sum(k.images) FILTER (WHERE k.stage <> 'judge'), 0)::bigint AS cleared,
       coalesce(sum(k.images) FILTER (WHERE k.stage = 'audit'), 0)::bigint AS audited,
       coalesce(sum(k.images) FILTER (WHERE k.stage = 'audit' AND k.flagged), 0)::bigint AS audited_flagged,
       coalesce(sum(k.images) FILTER (WHERE k.stage = 'judge'), 0)::bigint AS judged,
       coalesce(sum(k.images) FILTER (WHERE k.stage = 'judge' AND k.flagged), 0)::bigint AS judged_flagged,
       (d.description -> 'clear' ->> 'max_miss_rate')::float AS max_miss_rate,
       (d.description -> 'clear' ->> 'audit_share')::float AS audit_share,
       coalesce((d.description -> 'clear' ->> 'judge_flags')::float, 0) AS judge_flags
FROM stages_daily k
LEFT JOIN scans s ON s.id = k.scan_id
LEFT JOIN detectors d ON d.id = k.detector_id
GROUP BY k.day, s.id, k.detector_id, d.id;
"""

# While the promise is kept, the mean of `evidence` is at most 1, so by Markov's inequality it is at least x with a
# probability of at most 1/x. Decision 0030 proves it. The limits of 300 are there because avg() also adds squares.
_ALARMS = """
CREATE VIEW cascade_alarms AS
WITH today AS (
    SELECT date_trunc('day', now(), 'UTC') AS began
), weekly AS (  -- the seven full days that end with this one
    SELECT t.began - ago * interval '24 hours' AS day, a.detector_id, a.detector_name,
           sum(a.cleared)::bigint AS cleared, sum(a.audited)::bigint AS audited,
           sum(a.audited_flagged)::bigint AS audited_flagged, sum(a.judged)::bigint AS judged,
           sum(a.judged_flagged)::bigint AS judged_flagged, a.max_miss_rate, a.audit_share, a.judge_flags
    FROM today t
    CROSS JOIN generate_series(1, 91) AS ago
    JOIN cascade_audits a ON a.day <= t.began - ago * interval '24 hours'
                         AND a.day > t.began - (ago + 7) * interval '24 hours'
    WHERE a.day > date_trunc('day', now(), 'UTC') - interval '2352 hours'  -- 98 days
    GROUP BY t.began, ago, a.detector_id, a.detector_name, a.max_miss_rate, a.audit_share, a.judge_flags
), estimated AS (
    SELECT *, cleared * (audited_flagged::float / nullif(audited, 0)) AS missed,
           max_miss_rate * audit_share / (1 - max_miss_rate) AS odds
    FROM weekly
), tested AS (
    SELECT *, CASE WHEN odds IS NOT NULL THEN 1 / greatest(evidence, 1) END AS chance
    FROM estimated CROSS JOIN LATERAL (
        SELECT avg(CASE WHEN odds * (m - 1) < 1 THEN exp(greatest(-300, least(300,
                       audited_flagged * ln(m) + judged_flagged * ln(1 - odds * (m - 1))
                       - audited * ln(1 + judge_flags * (m - 1))))) ELSE 0 END) AS evidence
        FROM (VALUES (1.4::float), (3), (10), (45)) AS times (m)
    ) AS weighed
)
SELECT day, detector_id, detector_name, cleared, audited, audited_flagged, judged, judged_flagged,
       missed / nullif(missed + judged_flagged, 0) AS miss_rate, max_miss_rate, audit_share, judge_flags,
       chance AS false_alarm_chance, coalesce(chance <= 0.05 / 365, false) AS alarm
FROM tested;
"""

_OWNER = "SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class WHERE oid = 'finding_details'::regclass"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "stages_daily",
        sa.Column("day", sa.DateTime(timezone=True), nullable=False),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("detector_id", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.String(length=8), nullable=False),
        sa.Column("flagged", sa.Boolean(), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "scan_id", "detector_id", "stage", "flagged", "shard", name=op.f("pk_stages_daily")
        ),
    )
    # For the figures of one scan.
    op.create_index(op.f("ix_stages_daily_scan_id"), "stages_daily", ["scan_id"])
    op.execute("LOCK TABLE findings IN SHARE ROW EXCLUSIVE MODE")
    op.execute(_STAGED)
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar()
    op.execute(f"ALTER FUNCTION findings_staged() SET search_path = {schema}, pg_temp")
    op.execute("REVOKE ALL ON FUNCTION findings_staged() FROM PUBLIC")
    op.execute(_AUDITS)
    op.execute(_ALARMS)
    op.execute(_details(", v.stage, v.first_score"))


def _details(more: str) -> str:
    """The views of findings as in 0015, with more columns at the end."""
    before = importlib.import_module("migrations.versions.0015_who_did_what")
    sql: str = before._DETAILS.format(more=before._MORE + more, join=before._JOIN)  # noqa: SLF001 - its own SQL
    return sql


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE findings IN ACCESS EXCLUSIVE MODE")
    op.execute("DROP TRIGGER staged ON findings")
    op.execute("DROP FUNCTION findings_staged()")
    owner = op.get_bind().execute(sa.text(_OWNER)).scalar()
    for view in ("cascade_alarms", "cascade_audits", "flagged_findings", "finding_details"):
        op.execute(f"DROP VIEW {view}")
    op.execute(_details(""))
    for view in ("finding_details", "flagged_findings"):
        op.execute(f"ALTER VIEW {view} OWNER TO {owner}")
    op.drop_table("stages_daily")
