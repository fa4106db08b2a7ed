"""Images for the live queue, and failed images once more."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy import select, update
from sqlmodel import col

from producers.scans import find_scan
from worker.database import Database, counters, partitions, transaction
from worker.errors import BrokerUnavailableError, Reason, ScanStateError
from worker.messages import LIVE_QUEUE, MAX_IMAGES, SCAN_QUEUE, ImageRef, Policy, messages_of
from worker.tables import Finding, Scan, ScanStatus

if TYPE_CHECKING:
    from celery import Celery

    from producers.publishing import Publisher

RETRYABLE = (Reason.STORAGE_UNAVAILABLE, Reason.ENGINE_FAILED)
"""Reasons that another try may cure without anybody having changed anything."""


def submit(app: "Celery", database: Database, refs: Sequence[ImageRef], *, policy: Policy | None = None) -> UUID:
    """Publishes images to the live queue as one submission; the id of its scan."""
    from worker import broker  # noqa: PLC0415 - `retry` is given a publisher

    scan_id = uuid4()
    partition = partitions.live_partition(datetime.now(UTC))
    scan = Scan(
        id=scan_id,
        kind="live",
        name="submission",
        source="fakesweep submit",
        policy=(policy or Policy()).stored(),
        partition=partition,
        status=ScanStatus.RUNNING,
        listed=len(refs),
    )
    with transaction(database) as session:
        partitions.ensure_partition(session, partition)
        session.add(scan)
    published = 0
    try:
        for job in messages_of(refs, scan_id=scan_id):
            broker.publish(app, job, LIVE_QUEUE)
            published += len(job.images)
    except BrokerUnavailableError as error:
        with transaction(database) as session:
            session.execute(update(Scan).where(col(Scan.id) == scan_id).values(listed=published))
            counters.finish_if_full(session, scan_id)
        raise BrokerUnavailableError(f"submission {scan_id}: {published} of {len(refs)} published: {error}") from error
    return scan_id


def retry(publisher: "Publisher", database: Database, scan_id: UUID, reasons: Collection[Reason] = RETRYABLE) -> int:
    """Publishes the images of a scan that failed for these reasons again; how many.

    Their old outcomes stand until new ones take their place.
    Raises NoSuchScanError, ScanStateError, BrokerUnavailableError.
    """
    count, last = 0, ""
    while True:
        with transaction(database) as session:
            scan = find_scan(session, scan_id)
            if scan.status == ScanStatus.CANCELLED or scan.dropped_at is not None:
                raise ScanStateError(f"scan {scan_id} is cancelled, or its findings are dropped: start a new one")
            own = (col(Finding.partition) == scan.partition, col(Finding.scan_id) == scan.id)
            query = select(col(Finding.uri), col(Finding.external_id)).where(*own, col(Finding.reason).in_(reasons))
            rows = session.execute(
                query.where(col(Finding.uri) > last).order_by(col(Finding.uri)).limit(MAX_IMAGES * 100)
            ).all()
        if not rows:
            return count
        # Without the listed ETag: whatever lies there now is judged.
        refs = (ImageRef(uri=uri, external_id=external_id) for uri, external_id in rows)
        messages = [job.payload() for job in messages_of(refs, scan_id=scan_id, again=True)]
        publisher.publish(LIVE_QUEUE if scan.kind == "live" else SCAN_QUEUE, messages)
        count, last = count + len(rows), rows[-1][0]
