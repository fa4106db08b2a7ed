"""Publishes submissions that were stored but not published, because their process died or the broker was away."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import text

from worker import broker
from worker.database import Database, transaction
from worker.messages import LIVE_QUEUE, JudgeImages

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger(__name__)

OLDER_THAN = timedelta(minutes=1)
"""Before that, the process that took the submission may still publish it."""

# The row is deleted before its messages are published. So a second process waits here for the first one, and then finds
# that the row is gone.
_TAKE = text("""
DELETE FROM unpublished WHERE id = (
    SELECT u.id FROM unpublished u JOIN scans s ON s.id = u.scan_id
    WHERE s.kind = 'live' AND s.status = 'running' AND s.created_at < now() - CAST(:older_than AS interval)
    ORDER BY u.id LIMIT 1
) RETURNING scan_id, messages
""")
_NOTE = text("UPDATE idempotency_keys SET published_at = now() WHERE scan_id = :scan_id AND published_at IS NULL")


def publish_left_behind(app: "Celery", database: Database, *, older_than: timedelta = OLDER_THAN) -> int:
    """Publishes the messages of submissions that are still waiting, and returns the number of images.

    The messages stay in `unpublished` until the broker has them. If the process dies in between, or two processes do
    this at once, some messages are published twice. There is still one finding for each image.

    Raises BrokerUnavailableError, DatabaseUnavailableError.
    """
    images = 0
    while published := _publish_one(app, database, older_than):
        images += published
    return images


def _publish_one(app: "Celery", database: Database, older_than: timedelta) -> int:
    with transaction(database) as session:
        row: Any = session.execute(_TAKE, {"older_than": older_than}).first()
        if row is None:
            return 0
        broker.declare(app)
        jobs = [JudgeImages.parse(message) for message in row.messages]
        for job in jobs:
            broker.publish(app, job, LIVE_QUEUE)
        session.execute(_NOTE, {"scan_id": row.scan_id})
    images = sum(len(job.images) for job in jobs)
    log.info("submission_published_late", scan_id=str(row.scan_id), images=images)
    return images
