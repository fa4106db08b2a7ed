"""A scan from its start to its end: list -> batch -> publish -> progress. And submissions to the live queue."""

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from celery import Celery
from sqlalchemy import Engine, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from producers.sources import list_source
from worker import broker, database
from worker.errors import BrokerUnavailableError, NoSuchScanError, Reason
from worker.messages import LIVE_QUEUE, MAX_IMAGES, SCAN_QUEUE, ImageRef, JudgeImages, Policy
from worker.tables import Finding, Scan, ScanStatus

MAX_DEPTH = 2000
"""Messages that may wait in the queue: about 32,000 images, minutes of work for one GPU and no burden for a broker."""

RETRYABLE = (Reason.STORAGE_UNAVAILABLE, Reason.ENGINE_FAILED)
"""Reasons that another try may cure without anybody having changed anything."""

_BETWEEN_LOOKS = 50
"""Messages published between two looks at the queue's depth and two updates of the scan's row."""


def start_scan(
    postgres: Engine, source: str, *, name: str | None = None, token: str | None = None, policy: Policy | None = None
) -> Scan:
    """The scan's row; with a token that was used before, the row that it made then."""
    scan_id = uuid4()
    values = {
        "id": scan_id,
        "kind": "scan",
        "name": name or source,
        "source": source,
        "token": token,
        "policy": (policy or Policy()).stored(),
        "partition": f"scan_{scan_id.hex}",
        "status": ScanStatus.LISTING,
    }
    with database.transaction(postgres) as session:
        session.execute(insert(Scan).values(**values).on_conflict_do_nothing(index_elements=["token"]))
        scan = session.get(Scan, scan_id)
        if scan is None:
            scan = session.execute(select(Scan).where(col(Scan.token) == token)).scalar_one()
        database.ensure_partition(session, scan.partition)
        return scan


def publish_scan(
    app: Celery,
    postgres: Engine,
    scan: Scan,
    *,
    skip: Callable[[str], None] = lambda _line: None,
    listed: Callable[[int], None] = lambda _count: None,
) -> None:
    """Lists the source and publishes it, then lets the scan end; nothing when that was done before.

    Safe to run again after a crash: what has its finding is passed over by the workers. `skip` is told of what is
    passed over here, `listed` the count so far.
    """
    if scan.status != ScanStatus.LISTING:
        return
    total = skipped = 0

    def count_skip(line: str) -> None:
        nonlocal skipped
        skipped += 1
        skip(line)

    for number, images in enumerate(_batches(list_source(scan.source, count_skip), MAX_IMAGES)):
        if number % _BETWEEN_LOOKS == 0:
            _wait_for_room(app, SCAN_QUEUE)
            _note(postgres, scan.id, total, skipped, ScanStatus.LISTING)
        broker.publish(app, JudgeImages(scan_id=scan.id, images=images), SCAN_QUEUE)
        total += len(images)
        listed(total)
    _note(postgres, scan.id, total, skipped, ScanStatus.RUNNING)


def submit(app: Celery, postgres: Engine, refs: Sequence[ImageRef], *, policy: Policy | None = None) -> UUID:
    """Publishes images to the live queue as one submission; the id of its scan."""
    scan_id = uuid4()
    partition = database.live_partition(datetime.now(UTC))
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
    with database.transaction(postgres) as session:
        database.ensure_partition(session, partition)
        session.add(scan)
    published = 0
    try:
        for images in _batches(refs, MAX_IMAGES):
            broker.publish(app, JudgeImages(scan_id=scan_id, images=images), LIVE_QUEUE)
            published += len(images)
    except BrokerUnavailableError as error:
        with database.transaction(postgres) as session:
            session.execute(update(Scan).where(col(Scan.id) == scan_id).values(listed=published))
            database.finish_if_full(session, scan_id)
        raise BrokerUnavailableError(f"submission {scan_id}: {published} of {len(refs)} published: {error}") from error
    return scan_id


def retry(app: Celery, postgres: Engine, scan_id: UUID, reasons: Collection[Reason] = RETRYABLE) -> int:
    """Publishes the images of a scan that failed for these reasons again; how many.

    Their old outcomes stand until new ones take their place. Raises NoSuchScanError, BrokerUnavailableError.
    """
    count, last = 0, ""
    while True:
        with database.transaction(postgres) as session:
            scan = session.get(Scan, scan_id)
            if scan is None:
                raise NoSuchScanError(f"there is no scan {scan_id}; `fakesweep status` lists them")
            own = (col(Finding.partition) == scan.partition, col(Finding.scan_id) == scan.id)
            query = select(col(Finding.uri), col(Finding.external_id)).where(*own, col(Finding.reason).in_(reasons))
            rows = session.execute(
                query.where(col(Finding.uri) > last).order_by(col(Finding.uri)).limit(MAX_IMAGES)
            ).all()
        if not rows:
            return count
        # Without the listed ETag: whatever lies there now is judged.
        images = tuple(ImageRef(uri=uri, external_id=external_id) for uri, external_id in rows)
        queue = LIVE_QUEUE if scan.kind == "live" else SCAN_QUEUE
        broker.publish(app, JudgeImages(scan_id=scan_id, images=images, again=True), queue)
        count, last = count + len(images), images[-1].uri


def _batches(refs: Iterable[ImageRef], size: int) -> Iterator[tuple[ImageRef, ...]]:
    iterator = iter(refs)
    while batch := tuple(itertools.islice(iterator, size)):
        yield batch


def _note(postgres: Engine, scan_id: UUID, listed: int, skipped: int, status: ScanStatus) -> None:
    """Absolute counts, so that listing a source a second time counts nothing twice."""
    with database.transaction(postgres) as session:
        session.execute(
            update(Scan)
            .where(col(Scan.id) == scan_id, col(Scan.status) == ScanStatus.LISTING)
            .values(listed=listed, skipped=skipped, status=status)
        )
        database.finish_if_full(session, scan_id)


def _wait_for_room(app: Celery, queue: str) -> None:
    while broker.depth(app, queue) >= MAX_DEPTH:
        time.sleep(1)
