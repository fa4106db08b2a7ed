"""A person's own pace, which is shown to nobody else."""

from dataclasses import dataclass

from sqlalchemy import text

from producers.web.access.people import Person
from worker.database import Database, transaction

# Near duplicates that were decided together count as one decision.
_PACE = """
WITH decisions AS (
    SELECT min(r.created_at) AS at
    FROM reviews r
    WHERE r.reviewer = :me AND r.created_at >= date_trunc('week', now(), 'UTC')
      AND NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id)
    GROUP BY coalesce(r.claim_id::text, r.id::text)
), gaps AS (
    SELECT at, extract(epoch FROM at - lag(at) OVER (ORDER BY at))::float AS seconds FROM decisions
)
SELECT count(*) FILTER (WHERE at >= date_trunc('day', now(), 'UTC')), count(*),
       percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE seconds <= 600)
FROM gaps
"""


@dataclass(frozen=True)
class Pace:
    """Decisions today and this week (UTC, from Monday), and the median time between two decisions of a sitting, in
    seconds.
    """

    today: int
    this_week: int
    median_s: float | None


def pace(database: Database, person: Person) -> Pace:
    """Counts decisions that were not withdrawn. A pause of more than ten minutes ends a sitting."""
    with transaction(database) as session:
        return Pace(*session.execute(text(_PACE), {"me": person.name}).one())
