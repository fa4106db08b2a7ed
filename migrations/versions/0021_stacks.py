"""Stacks, which of them are in use, and a view with the combined scores of findings.

Additive: the release before knows neither.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None
works_from = "0013"

# worker.stacking.stacked_score does the same steps in the same order. exp refuses what is too small or too large.
_SCORE = """
CREATE FUNCTION stacked_score("offset" float8, weights float8[], log_odds float8[]) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN array_position(log_odds, NULL) IS NULL THEN 1 / (1 + exp(greatest(-700, least(700, -("offset" + (
    SELECT sum(part.weight * greatest(-1e6, least(part.log_odds, 1e6)) ORDER BY part.n)
    FROM unnest(weights, log_odds) WITH ORDINALITY part (weight, log_odds, n)
)))))) END
$$
"""

# A finding has a row for each stack in use that its own detector is part of. The newest choice of a stack says if it is
# in use. The verdicts are those of the finding itself: its own, and its second opinions. So a later judgement changes
# no finding. For a detector that the finding says nothing of, there is its newest verdict about the content, by the
# index on sha256, detector_id and id.
_VIEW = """
CREATE VIEW combined_scores AS
SELECT f.partition, f.scan_id, f.uri, f.sha256, s.id AS stack_id, s.name AS stack, s.fingerprint AS stack_fingerprint,
       choice.id AS choice_id, combined.score,
       CASE WHEN said.missing IS NOT NULL THEN NULL
            WHEN combined.score >= s.fake_from THEN 'fake'
            WHEN combined.score <= s.real_to THEN 'real'
            ELSE 'uncertain' END AS verdict,
       coalesce(said.missing, '{}') AS missing, coalesce(said.from_elsewhere, '{}') AS from_elsewhere
FROM findings f
JOIN verdicts own ON own.id = f.verdict_id
JOIN stacks s ON own.detector_id = ANY (s.detector_ids)
CROSS JOIN LATERAL (SELECT c.id, c.in_use FROM stack_choices c WHERE c.stack_id = s.id
                    ORDER BY c.id DESC LIMIT 1) choice
CROSS JOIN LATERAL (
    SELECT array_agg(CASE WHEN opinion.id IS NULL THEN newest.log_odds ELSE opinion.log_odds END ORDER BY part.n)
               AS log_odds,
           array_agg(d.name ORDER BY part.n) FILTER (WHERE opinion.id IS NULL AND newest.id IS NULL) AS missing,
           array_agg(d.name ORDER BY part.n) FILTER (WHERE newest.id IS NOT NULL) AS from_elsewhere
    FROM unnest(s.detector_ids) WITH ORDINALITY part (detector_id, n)
    LEFT JOIN detectors d ON d.id = part.detector_id
    LEFT JOIN verdicts opinion ON opinion.id = CASE WHEN part.detector_id = own.detector_id THEN own.id ELSE (
        SELECT (o ->> 'verdict_id')::bigint FROM jsonb_array_elements(f.opinions) o
        WHERE (o ->> 'detector_id')::bigint = part.detector_id LIMIT 1) END
    LEFT JOIN LATERAL (SELECT v.id, v.log_odds FROM verdicts v
                       WHERE opinion.id IS NULL AND v.sha256 = f.sha256 AND v.detector_id = part.detector_id
                       ORDER BY v.id DESC LIMIT 1) newest ON true
) said
CROSS JOIN LATERAL (SELECT stacked_score(s."offset", s.weights, said.log_odds) AS score) combined
WHERE choice.in_use
"""

_EVENT = """
CREATE FUNCTION stack_chosen() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO events (kind, subject, details)
    SELECT CASE WHEN NEW.in_use THEN 'stack_added' ELSE 'stack_withdrawn' END, s.name, jsonb_build_object(
        'fingerprint', s.fingerprint, 'detector_ids', s.detector_ids, 'weights', s.weights,
        'offset', s."offset", 'fake_from', s.fake_from, 'real_to', s.real_to)
    FROM stacks s WHERE s.id = NEW.stack_id;
    RETURN NULL;
END $$;
CREATE TRIGGER stack_chosen AFTER INSERT ON stack_choices FOR EACH ROW EXECUTE FUNCTION stack_chosen();
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "stacks",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("detector_ids", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("weights", postgresql.ARRAY(sa.Float()), nullable=False),
        *(sa.Column(name, sa.Float(), nullable=False) for name in ("offset", "fake_from", "real_to")),
        sa.Column("description", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("cardinality(detector_ids) >= 2", name=op.f("ck_stacks_several")),
        sa.CheckConstraint("cardinality(weights) = cardinality(detector_ids)", name=op.f("ck_stacks_a_weight_each")),
        sa.CheckConstraint("real_to <= fake_from", name=op.f("ck_stacks_thresholds")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stacks")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_stacks_fingerprint")),
    )
    op.create_table(
        "stack_choices",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("stack_id", sa.BigInteger(), nullable=False),
        sa.Column("in_use", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stack_choices")),
    )
    op.create_index("ix_stack_choices_stack_id_id", "stack_choices", ["stack_id", "id"])
    for sql in (_SCORE, _VIEW, _EVENT):
        op.execute(sql)
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar()
    # As in 0007.
    op.execute(f"ALTER FUNCTION stack_chosen() SET search_path = {schema}, pg_temp")
    op.execute("REVOKE ALL ON FUNCTION stack_chosen() FROM PUBLIC")
    for table in ("stacks", "stack_choices"):
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    op.execute("DROP VIEW combined_scores")
    op.drop_table("stack_choices")
    op.drop_table("stacks")
    op.execute("DROP FUNCTION stack_chosen()")
    op.execute("DROP FUNCTION stacked_score(float8, float8[], float8[])")
