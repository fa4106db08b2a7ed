"""Publishes a scan: list -> dedupe -> commit -> publish, chunk by chunk, from where the last producer stopped."""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Protocol
from uuid import UUID

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from producers import nothing_listed
from producers.committing import check_active, commit, end_listing, take_up
from producers.counting import Count, Counts, count_nothing
from producers.listing import Rules, Source, Warn, ahead, chunks
from producers.scans import Listing, find_scan
from producers.sources import open_source
from worker.database import Database, transaction
from worker.errors import DatabaseUnavailableError, SupersededError
from worker.messages import LIVE_QUEUE, SCAN_QUEUE
from worker.tables import ScanStatus

CHUNK = 10000
"""How many images are compared, committed and published together: ten pages of S3, 625 messages."""

RESUMPTIONS = 20
"""How often a run tries again when the database cannot be reached."""


class Publisher(Protocol):
    """Puts messages on the queue: producers.bulk.BulkPublisher, or a fake."""

    def publish(
        self, queue: str, messages: Sequence[dict[str, Any]], *, waiting: Callable[[], None] = lambda: None
    ) -> None:
        """Publishes the messages, and returns when the broker has confirmed all.

        Calls `waiting` while there is no room.

        Raises BrokerUnavailableError.
        """


@retry(
    retry=retry_if_exception_type(DatabaseUnavailableError),
    stop=stop_after_attempt(RESUMPTIONS),
    wait=wait_random_exponential(max=30),
    reraise=True,
)
def publish_scan(
    publisher: Publisher,
    database: Database,
    scan_id: UUID,
    *,
    chunk_size: int = CHUNK,
    opened: Callable[[Sequence[str], Rules, Warn], Source] = open_source,
    warn: Warn = lambda _line: None,
    listed: Callable[[int], None] = lambda _count: None,
    waiting: Callable[[], None] = lambda: None,
    count: Count = count_nothing,
) -> ScanStatus:
    """Lists the scan's source from its cursor on, publishes images that are not known, and returns the scan's status.

    Images are committed before they are published, and their messages are kept in `unpublished` until a later chunk is
    committed. So if a producer is killed, nothing is lost and nothing is counted twice. If two producers work on one
    scan, the one that commits second stops. While a scan is repaired, only images without an outcome are published.

    `listed` is called with the count after each chunk, `waiting` while the queue is full, and `count` with what was
    done.

    Raises SourceError, BrokerUnavailableError, DatabaseUnavailableError. Run it again to continue.
    """
    taken, left_behind = take_up(database, scan_id)
    scan = taken.scan

    def check_and_wait() -> None:
        check_active(database, scan)
        waiting()

    def publish(messages: Sequence[dict[str, Any]]) -> None:
        publisher.publish(LIVE_QUEUE if scan.kind == "live" else SCAN_QUEUE, messages, waiting=check_and_wait)
        count(Counts(published=sum(len(message["images"]) for message in messages)))

    try:
        publish(left_behind)
        if scan.status in {ScanStatus.LISTING, ScanStatus.REPAIRING}:
            listing = Listing.of(scan)
            source = opened(listing.sources, listing.rules, warn)
            with (
                closing(ahead(chunks(source.pages(scan.cursor), chunk_size))) as pages,
                closing(commit(database, taken, pages)) as committed,
            ):
                for chunk in committed:
                    count(Counts(listed=chunk.images, known=chunk.known))
                    publish(chunk.messages)
                    listed(chunk.listed)
        end_listing(database, taken)
    except SupersededError:
        warn(f"scan {scan_id}: another producer has continued it, or it was paused or cancelled")
    with transaction(database) as session:
        ended = find_scan(session, scan_id)
    was_listed = scan.status in {ScanStatus.LISTING, ScanStatus.REPAIRING}
    if was_listed and not ended.listed and ended.status == ScanStatus.DONE:
        warn(nothing_listed.warning(ended))
    return ScanStatus(ended.status)
