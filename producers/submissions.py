"""Submits images to the live queue, and publishes failed images again."""

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from producers.further import ready_policy
from producers.scans import find_scan
from worker.database import Database, counters, partitions, transaction
from worker.database.events import record
from worker.errors import BrokerUnavailableError, KeyInUseError, KeyReusedError, Reason, ScanStateError
from worker.messages import FORGOTTEN, LIVE_QUEUE, MAX_IMAGES, SCAN_QUEUE, ImageRef, JudgeImages, Policy, messages_of
from worker.tables import EventKind, Finding, IdempotencyKey, Scan, ScanStatus, Unpublished

if TYPE_CHECKING:
    from celery import Celery

    from producers.publishing import Publisher

RETRYABLE = (Reason.STORAGE_UNAVAILABLE, Reason.ENGINE_FAILED)
"""Reasons for which a retry may succeed although nobody has changed anything."""

_FORGET = text(
    "DELETE FROM idempotency_keys WHERE (token_id, key) IN (SELECT token_id, key FROM idempotency_keys "
    "WHERE created_at < :before ORDER BY created_at LIMIT 100 FOR UPDATE SKIP LOCKED)"
)
"""How many expired keys a request with a key deletes: more than it adds, but only a few."""


@dataclass(frozen=True)
class Key:
    """The idempotency key of a request, and the SHA-256 of its content: the same key must ask for the same thing."""

    token_id: int
    key: str
    request_sha256: str


@dataclass(frozen=True)
class Submitted:
    """The scan of a submission. `replayed`: an earlier request with the same key made it."""

    scan_id: UUID
    replayed: bool = False


class Submissions:
    """Takes submissions with idempotency keys. Each process has one, which all its threads share."""

    def __init__(self, app: "Celery", database: Database, *, keep: timedelta = timedelta(hours=24)) -> None:
        self._app, self._database, self._keep = app, database, keep
        self._lock = threading.Lock()
        self._in_hand: set[tuple[int, str]] = set()

    def submit(self, refs: Sequence[ImageRef], key: Key, *, policy: Policy | None = None) -> Submitted:
        """Publishes images to the live queue as one submission, or continues the submission that an earlier request
        with this key made.

        The messages are kept in `unpublished` from the commit until the broker has all of them. So nothing is lost if
        the process dies in between or the broker is away: the next request with the key publishes them, and after a
        minute any web process does (producers.left_behind). Some messages may be published twice. There is still one
        finding for each image.

        Raises KeyReusedError, KeyInUseError, BrokerUnavailableError, NoSuchDetectorError, OlderAtWorkError.
        """
        with self._alone(key):
            submitted, messages = self._open(refs, key, policy)
            if messages:
                _declare(self._app)
                for job in messages:
                    _publish(self._app, JudgeImages.parse(job))
                self._note_published(submitted.scan_id, key)
        return submitted

    @contextmanager
    def _alone(self, key: Key) -> Iterator[None]:
        """Only for this process. If another process handles the same key at the same time, a few messages are published
        twice.
        """
        name = (key.token_id, key.key)
        with self._lock:
            if name in self._in_hand:
                raise KeyInUseError("a request with this idempotency key is being answered: ask again in a moment")
            self._in_hand.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._in_hand.discard(name)

    def _open(self, refs: Sequence[ImageRef], key: Key, policy: Policy | None) -> tuple[Submitted, list[Any]]:
        """Returns the submission, and the messages that may not have reached the broker."""
        scan = _scan_of(refs, policy, "API")
        with transaction(self._database) as session:
            session.execute(_FORGET, {"before": datetime.now(UTC) - self._keep})
            row = {"token_id": key.token_id, "key": key.key, "request_sha256": key.request_sha256, "scan_id": scan.id}
            new = insert(IdempotencyKey).values(row).on_conflict_do_nothing().returning(col(IdempotencyKey.key))
            if session.execute(new).scalar() is None:
                known = session.get_one(IdempotencyKey, (key.token_id, key.key))
                return self._known(session, known, key)
            messages = [job.payload() for job in messages_of(refs, scan_id=scan.id)]
            _store(session, scan)
            session.add(Unpublished(scan_id=scan.id, messages=messages))
        return Submitted(scan.id), messages

    def _known(self, session: Session, known: IdempotencyKey, key: Key) -> tuple[Submitted, list[Any]]:
        if known.request_sha256 != key.request_sha256:
            raise KeyReusedError("this idempotency key belongs to a request with another body: take a new key")
        messages: list[Any] = []
        if known.published_at is None:
            query = select(col(Unpublished.messages)).where(col(Unpublished.scan_id) == known.scan_id)
            messages = [message for row in session.execute(query).scalars() for message in row]
        return Submitted(known.scan_id, replayed=True), messages

    def _note_published(self, scan_id: UUID, key: Key) -> None:
        own = (col(IdempotencyKey.token_id) == key.token_id, col(IdempotencyKey.key) == key.key)
        with transaction(self._database) as session:
            session.execute(delete(Unpublished).where(col(Unpublished.scan_id) == scan_id))
            session.execute(update(IdempotencyKey).where(*own).values(published_at=func.now()))


def submit(
    app: "Celery",
    database: Database,
    refs: Sequence[ImageRef],
    *,
    policy: Policy | None = None,
    source: str = "fakesweep submit",
) -> UUID:
    """Publishes images to the live queue as one submission, and returns the id of its scan.

    If this process dies before the broker has all of them, a web process publishes them (producers.left_behind). If the
    broker is away, the submission ends with the images that were published.

    Raises BrokerUnavailableError, NoSuchDetectorError, OlderAtWorkError.
    """
    scan = _scan_of(refs, policy, source)
    scan_id = scan.id
    jobs = list(messages_of(refs, scan_id=scan_id))
    with transaction(database) as session:
        _store(session, scan)
        session.add(Unpublished(scan_id=scan_id, messages=[job.payload() for job in jobs]))
    published = 0
    try:
        _declare(app)
        for job in jobs:
            _publish(app, job)
            published += len(job.images)
    except BrokerUnavailableError as error:
        with transaction(database) as session:
            session.execute(delete(Unpublished).where(col(Unpublished.scan_id) == scan_id))
            session.execute(update(Scan).where(col(Scan.id) == scan_id).values(listed=published))
            counters.finish_if_full(session, scan_id)
        raise BrokerUnavailableError(f"submission {scan_id}: {published} of {len(refs)} published: {error}") from error
    with transaction(database) as session:
        session.execute(delete(Unpublished).where(col(Unpublished.scan_id) == scan_id))
    return scan_id


def _scan_of(refs: Sequence[ImageRef], policy: Policy | None, source: str) -> Scan:
    return Scan(
        id=uuid4(),
        kind="live",
        name="submission",
        source=source,
        policy=(policy or Policy()).stored(),
        partition=partitions.live_partition(datetime.now(UTC)),
        status=ScanStatus.RUNNING,
        listed=len(refs),
    )


def _store(session: Session, scan: Scan) -> None:
    scan.policy = ready_policy(session, Policy.model_validate(scan.policy)).stored()
    partitions.ensure_partition(session, scan.partition)
    session.add(scan)


def _declare(app: "Celery") -> None:
    from worker import broker  # noqa: PLC0415 - `retry` is given a publisher

    broker.declare(app)


def _publish(app: "Celery", job: JudgeImages) -> None:
    from worker import broker  # noqa: PLC0415 - likewise

    broker.publish(app, job, LIVE_QUEUE)


def retry(publisher: "Publisher", database: Database, scan_id: UUID, reasons: Collection[Reason] = RETRYABLE) -> int:
    """Publishes again the images of a scan that failed for these reasons, and returns how many.

    The old outcomes stay until new ones replace them.

    Raises NoSuchScanError, ScanStateError, BrokerUnavailableError.
    """
    count, last = 0, ""
    while True:
        with transaction(database) as session:
            scan = find_scan(session, scan_id)
            if scan.status == ScanStatus.CANCELLED or scan.dropped_at is not None:
                raise ScanStateError(f"scan {scan_id} is cancelled, or its findings are dropped: start a new one")
            own = (col(Finding.partition) == scan.partition, col(Finding.scan_id) == scan.id)
            query = select(col(Finding.uri), col(Finding.external_id)).where(
                *own, col(Finding.reason).in_(reasons), col(Finding.uri).not_like(f"{FORGOTTEN}%")
            )
            rows = session.execute(
                query.where(col(Finding.uri) > last).order_by(col(Finding.uri)).limit(MAX_IMAGES * 100)
            ).all()
            if rows and not count:
                # As in the triggers: the source may be the uri of one picture, and events are never deleted.
                subject = scan.name if scan.name != scan.source else None
                record(session, EventKind.RETRIED, scan_id=scan_id, subject=subject,
                       details={"reasons": sorted(reasons)})  # fmt: skip
        if not rows:
            return count
        # Without the listed ETag: the object that is there now is judged.
        refs = (ImageRef(uri=uri, external_id=external_id) for uri, external_id in rows)
        messages = [job.payload() for job in messages_of(refs, scan_id=scan_id, again=True)]
        publisher.publish(LIVE_QUEUE if scan.kind == "live" else SCAN_QUEUE, messages)
        count, last = count + len(rows), rows[-1][0]
