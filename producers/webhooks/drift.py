"""Puts drift alarms into the outbox. No transaction causes them: a view compares each full day with the weeks before.

Senders ask it every few minutes. An alarm has the same id each time, so each endpoint is told once a day.
"""

from sqlalchemy import text

from worker.database import Database, transaction

_WANTED = (
    "SELECT EXISTS (SELECT FROM webhook_endpoints e WHERE e.disabled_at IS NULL AND 'drift.alarm' = ANY (e.kinds))"
)
# The secret makes the id differ from those of other installations that send to the same receiver.
_TELL = """
WITH alarms AS (
    SELECT d.day, d.detector_id, d.bucket, d.bucket AS cell, d.detector_name, d.measure, d.share, d.share_before, d.z,
           d.images
    FROM drift d WHERE d.alarm
    UNION ALL  -- no bucket is called so
    SELECT c.day, c.detector_id, NULL, 'audited images', c.detector_name, 'missed by the first stage', c.miss_rate,
           c.max_miss_rate, NULL, c.audited
    FROM cascade_alarms c WHERE c.alarm
)
INSERT INTO outbox (endpoint_id, message_id, kind, subject, data)
SELECT e.id, md5(concat_ws(' ', e.secret, d.day AT TIME ZONE 'UTC', d.detector_id, d.cell))::uuid, 'drift.alarm',
       concat_ws(' ', d.detector_id, d.cell),
       jsonb_build_object('day', (d.day AT TIME ZONE 'UTC')::date, 'detector', d.detector_name, 'bucket', d.bucket,
                          'measure', d.measure, 'share', d.share, 'share_before', d.share_before, 'z', d.z,
                          'images', d.images)
FROM alarms d CROSS JOIN webhook_endpoints e
WHERE d.day = date_trunc('day', now(), 'UTC') - interval '24 hours'
  AND e.disabled_at IS NULL AND 'drift.alarm' = ANY (e.kinds)
FOR KEY SHARE OF e SKIP LOCKED  -- an endpoint that is being removed gets nothing more, and nobody waits for it
ON CONFLICT (endpoint_id, message_id) DO NOTHING
"""


def tell_of_drift(database: Database) -> int:
    """Writes a message for each alarm of the last full day that an endpoint was not told of. Returns how many."""
    with transaction(database) as session:
        if session.execute(text(_WANTED)).first() is None:
            return 0  # the view reads 26 weeks
        session.execute(text("SET LOCAL jit = off"))
        return int(session.execute(text(_TELL)).rowcount)  # type: ignore[attr-defined]
