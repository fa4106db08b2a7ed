"""Views that say whether a detector's results have drifted. docs/drift.md explains the rule.

They read `findings_hourly` and `reviews`, and change nothing.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_DAILY = """
today AS (
    SELECT (now() AT TIME ZONE 'UTC')::date AS date, date_trunc('day', now(), 'UTC') AS began
), daily AS (
    SELECT ago, detector_id, bucket, sum(n) AS images,
           sum(n) FILTER (WHERE verdict = 'fake') AS flagged,
           sum(n) FILTER (WHERE score_bin BETWEEN 0 AND 3) AS score_0,
           sum(n) FILTER (WHERE score_bin BETWEEN 4 AND 7) AS score_2,
           sum(n) FILTER (WHERE score_bin BETWEEN 8 AND 11) AS score_4,
           sum(n) FILTER (WHERE score_bin BETWEEN 12 AND 15) AS score_6,
           sum(n) FILTER (WHERE score_bin BETWEEN 16 AND 19) AS score_8,
           sum(n) FILTER (WHERE score_bin = -1) AS no_score, 0 AS reviewed, 0 AS overturned
    FROM (
        SELECT date - (hour AT TIME ZONE 'UTC')::date AS ago, detector_id, bucket, verdict, score_bin,
               findings::float AS n
        FROM findings_hourly, today
        WHERE outcome = 'judged' AND hour >= began - interval '4368 hours' AND hour < began  -- 26 weeks
    ) AS judged
    GROUP BY ago, detector_id, bucket
    UNION ALL
    SELECT date - (created_at AT TIME ZONE 'UTC')::date, detector_id, bucket_of(uri), 0, 0, 0, 0, 0, 0, 0, 0,
           count(*), count(*) FILTER (WHERE statement <> verdict)
    FROM reviews, today
    WHERE kind = 'first' AND statement IN ('fake', 'real') AND verdict IN ('fake', 'real')
      AND created_at >= began - interval '4368 hours' AND created_at < began
    GROUP BY 1, 2, 3
)
"""

# Shares are compared on the scale 2 * asin(sqrt(share)). On this scale, chance alone gives the variance 1 / images, for
# rare and for frequent things. With the 3/8, this is also true for small counts (Anscombe, Biometrika 35, 1948).
_COMPARED = """
weekly AS (  -- the seven days that end so many days ago, also where nothing happened in them
    SELECT ago, detector_id, bucket, sum(sum(images)) OVER week AS images, sum(sum(flagged)) OVER week AS flagged,
           sum(sum(score_0)) OVER week AS score_0, sum(sum(score_2)) OVER week AS score_2,
           sum(sum(score_4)) OVER week AS score_4, sum(sum(score_6)) OVER week AS score_6,
           sum(sum(score_8)) OVER week AS score_8, sum(sum(no_score)) OVER week AS no_score,
           sum(sum(reviewed)) OVER week AS reviewed, sum(sum(overturned)) OVER week AS overturned
    FROM (SELECT DISTINCT detector_id, bucket FROM daily) AS cells
    CROSS JOIN generate_series(1, 182) AS ago
    LEFT JOIN daily USING (ago, detector_id, bucket)
    GROUP BY ago, detector_id, bucket
    WINDOW week AS (PARTITION BY detector_id, bucket ORDER BY ago DESC ROWS BETWEEN 6 PRECEDING AND CURRENT ROW)
), shares AS (
    SELECT ago, detector_id, bucket, measure, of, coalesce(part, 0) AS part,
           CASE WHEN of >= enough THEN 2 * asin(sqrt((coalesce(part, 0) + 0.375) / (of + 0.75))::float) END AS angle
    FROM weekly CROSS JOIN LATERAL (VALUES
        ('flagged', images, flagged, 1000), ('score 0 to 0.2', images, score_0, 1000),
        ('score 0.2 to 0.4', images, score_2, 1000), ('score 0.4 to 0.6', images, score_4, 1000),
        ('score 0.6 to 0.8', images, score_6, 1000), ('score 0.8 to 1', images, score_8, 1000),
        ('no score', images, no_score, 1000), ('overturned', reviewed, overturned, 50)
    ) AS measures (measure, of, part, enough)
), compared AS (  -- with the twelve weeks before, as far as they have enough images
    SELECT *, count(angle) OVER before AS weeks_before, avg(angle) OVER before AS angle_before,
           var_samp(angle) OVER before AS variance,
           avg(part / of) FILTER (WHERE angle IS NOT NULL) OVER before AS share_before,
           avg(1 / of) FILTER (WHERE angle IS NOT NULL) OVER before AS chance
    FROM shares
    WINDOW before AS (PARTITION BY detector_id, bucket, measure, ago % 7 ORDER BY ago DESC
                      ROWS BETWEEN 12 PRECEDING AND 1 PRECEDING)
), tested AS (  -- Student's t of one more week, with so many degrees of freedom
    SELECT *, weeks_before - 1 AS freedom,
           (angle - angle_before) / sqrt(
               greatest(variance, chance) * (1 + 1.0 / nullif(weeks_before, 0)) + greatest(1 / of - chance, 0)) AS t
    FROM compared
    WHERE angle IS NOT NULL AND ago <= 91
)
"""

_SHARES = """
CREATE VIEW drift_shares AS
WITH {daily}, {compared}
SELECT began - ago * interval '24 hours' AS day, detector_id, d.name AS detector_name, bucket, measure,
       of::bigint AS images, part::bigint AS counted, part / of AS share, share_before, weeks_before::integer,
       -- As a normal deviate (Wallace, Annals of Mathematical Statistics 30, 1959).
       CASE WHEN weeks_before >= 4 THEN
           sign(t) * (8 * freedom + 1) / (8 * freedom + 3) * sqrt(freedom * ln(1 + t * t / freedom))
       END AS z
FROM tested
CROSS JOIN today
LEFT JOIN detectors d ON d.id = detector_id;
"""

# `chance`: the probability of a |z| that is at least as large, or slightly more, because Mills' ratio is at most
# 2 / (z + sqrt(z * z + 8 / pi)). Postgres has no error function before version 16.
_DRIFT = """
CREATE VIEW drift AS
WITH weighed AS (
    SELECT *, 4 * exp(z * z / -2) / sqrt(2 * pi()) / (abs(z) + sqrt(z * z + 8 / pi()))
                  * count(z) OVER (PARTITION BY day) AS chance
    FROM drift_shares
), ranked AS (
    SELECT *, row_number() OVER (cell ORDER BY abs(z) DESC NULLS LAST, measure) AS place,
           max(images) FILTER (WHERE measure = 'flagged') OVER cell AS judged,
           max(share) FILTER (WHERE measure = 'flagged') OVER cell AS share_flagged,
           max(share_before) FILTER (WHERE measure = 'flagged') OVER cell AS share_flagged_before
    FROM weighed
    WINDOW cell AS (PARTITION BY day, detector_id, bucket)
)
SELECT day, detector_id, detector_name, bucket, judged AS images, share_flagged, share_flagged_before, weeks_before,
       measure, share, share_before, z, least(chance, 1) AS false_alarm_chance,
       coalesce(chance <= 0.01, false) AS alarm
FROM ranked
WHERE place = 1;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(_SHARES.format(daily=_DAILY, compared=_COMPARED))
    op.execute(_DRIFT)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP VIEW drift")
    op.execute("DROP VIEW drift_shares")
