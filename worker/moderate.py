"""The path of an image, in one function: known? -> fetch -> hash -> (seen? reuse) -> decode -> judge -> save."""

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from uuid import UUID

import structlog
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from worker.case import Case
from worker.database import Database, lifecycle, transaction
from worker.database.findings import add_verdict, remember_object, save_findings
from worker.database.known import decided_uris, known_verdicts, stored_objects
from worker.database.suspects import count_try, strike_try
from worker.detector.description import DetectorDescription
from worker.detector.engine import Engine
from worker.detector.judge import judge
from worker.detector.verdicts import Reader
from worker.errors import (
    DatabaseUnavailableError,
    EngineDeadError,
    EngineGenerateError,
    FakesweepError,
    ImageError,
    Reason,
    StorageUnavailableError,
)
from worker.images import MAX_PIXELS, open_image, to_square
from worker.messages import ImageRef, JudgeImages, Policy
from worker.slots import Slots
from worker.storage import ImageStore
from worker.tables import Scan, StoredObject

log = structlog.get_logger(__name__)

MAX_TRIES_ALONE = 2
"""An image that was alone in the worker when it died this often is not tried again by itself."""


@dataclass(frozen=True)
class Parts:
    """What the path works with; put together in worker.__main__, or from fakes in a test."""

    store: ImageStore
    database: Database
    engine: Engine
    description: DetectorDescription
    detector_id: int
    slots: Slots = field(default_factory=lambda: Slots(512))
    decoders: AbstractContextManager[object] = field(
        default_factory=lambda: threading.BoundedSemaphore(os.cpu_count() or 1)
    )
    """As many images in full size at once as there are cores: one of 100 megapixels takes 300 MB."""
    suspects: AbstractContextManager[object] = field(default_factory=threading.Lock)
    """One suspect image at a time in the whole process, so that it is known which one ended it."""
    max_pixels: int = MAX_PIXELS
    retry_limit: int = 5

    @cached_property
    def reader(self) -> Reader:
        """Reads the engine's answers as the description says."""
        return Reader(self.description)


@dataclass(frozen=True)
class _Delivery:
    """What all images of a message share. `attempt` counts the delayed re-publishings before this one."""

    scan: Scan
    policy: Policy
    attempt: int
    again: bool

    @property
    def since(self) -> datetime | None:
        """A scan that judges again reuses its own verdicts only."""
        return self.scan.created_at if self.scan.rejudge else None


def moderate(job: JudgeImages, message_id: UUID, parts: Parts, *, redelivered: bool = False) -> JudgeImages | None:
    """Gives every image of the message its outcome; returns a message of those whose storage is away for now.

    A redelivered message is suspect, and so is one whose images failed together in a way nobody foresaw: its images
    are taken one by one, so that a poison image cannot take the others with it.
    Raises InvalidMessageError, DatabaseUnavailableError, ShuttingDownError, EngineDeadError.
    """
    with transaction(parts.database) as session:
        scan = lifecycle.open_scan(session, job, message_id, **parts.description.thresholds.model_dump())
        if lifecycle.set_aside(session, scan, job):
            return None
        if not lifecycle.takes_findings(scan):
            log.info("message_of_ended_scan", scan_id=str(scan.id), images=len(job.images))
            return None
        decided = decided_uris(session, scan, job.images, again=job.again)
    delivery = _Delivery(scan, _policy(scan, job, parts.description), job.attempt, job.again)
    refs = [ref for ref in job.images if ref.uri not in decided]
    with parts.slots.take(len(refs)):
        try:
            later = _one_by_one(refs, delivery, parts) if redelivered else _path(refs, delivery, parts)
        except FakesweepError:
            raise
        except Exception:
            log.exception("message_failed_together", scan_id=str(scan.id))
            later = _one_by_one(refs, delivery, parts)
    if not later:
        return None
    return job.model_copy(update={"scan_id": scan.id, "images": tuple(later), "attempt": job.attempt + 1})


def _policy(scan: Scan, job: JudgeImages, description: DetectorDescription) -> Policy:
    """The scan's policy with the message's wish and the limit on an answer that really applies."""
    policy = Policy.model_validate(scan.policy)
    limit = min(description.answer.max_tokens, policy.max_tokens or description.answer.max_tokens)
    return policy.model_copy(update={"explain": job.explain or policy.explain, "max_tokens": limit})


def _path(refs: Sequence[ImageRef], delivery: _Delivery, parts: Parts) -> list[ImageRef]:
    """The path itself. Each step leaves alone what an earlier one has decided; returns what is left for later."""
    cases = [Case(ref) for ref in refs]
    _reuse_unchanged(cases, delivery, parts)
    for case in cases:
        if case.verdict is None:
            parts.slots.check()
            _fetch_and_decode(case, delivery, parts)
    _judge(cases, delivery, parts)
    _save(cases, delivery, parts)
    return [case.ref for case in cases if case.later]


def _one_by_one(refs: Sequence[ImageRef], delivery: _Delivery, parts: Parts) -> list[ImageRef]:
    later: list[ImageRef] = []
    for ref in refs:
        parts.slots.check()
        with parts.suspects:
            later += _alone(ref, delivery, parts)
    return later


def _alone(ref: ImageRef, delivery: _Delivery, parts: Parts) -> list[ImageRef]:
    """The path for a suspect. Its try is counted before and struck out after, so that only a death leaves it."""
    tries = count_try(parts.database, delivery.scan.id, ref.uri)
    if tries > MAX_TRIES_ALONE:
        detail = f"the worker ended {tries - 1} times while it had this image alone"
        _save([Case(ref, failure=ImageError(Reason.ENGINE_FAILED, detail))], delivery, parts)
        return []
    try:
        later = _path([ref], delivery, parts)
    except EngineDeadError:
        raise
    except FakesweepError:
        strike_try(parts.database, delivery.scan.id, ref.uri)
        raise
    except Exception as error:
        log.exception("image_failed_alone", scan_id=str(delivery.scan.id), uri=ref.uri)
        detail = f"unforeseen {type(error).__name__}, see the worker's log"
        _save([Case(ref, failure=ImageError(Reason.ENGINE_FAILED, detail))], delivery, parts)
        return []
    strike_try(parts.database, delivery.scan.id, ref.uri)
    return later


def _reuse_unchanged(cases: Sequence[Case], delivery: _Delivery, parts: Parts) -> None:
    """Reuses, without fetching, where this detector judged what has the same ETag at the same uri."""
    with transaction(parts.database) as session:
        objects = stored_objects(session, [case.ref for case in cases])
        contents = {stored.sha256 for stored in objects.values()}
        verdicts = known_verdicts(session, contents, parts.detector_id, delivery.policy, delivery.since)
    for case in cases:
        stored = objects.get(case.ref.uri)
        if stored and stored.sha256 in verdicts:
            case.stored, case.verdict = stored, verdicts[stored.sha256]
            case.reused_from = case.verdict.uri


def _fetch_and_decode(case: Case, delivery: _Delivery, parts: Parts) -> None:
    """Fetches and hashes; reuses a verdict on the same content, else decodes."""
    try:
        data = parts.store.fetch(case.ref)
        sha256 = hashlib.sha256(data).hexdigest()
        case.stored = StoredObject(uri=case.ref.uri, etag=case.ref.etag, sha256=sha256, size=len(data))
        with transaction(parts.database) as session:
            known = known_verdicts(session, [sha256], parts.detector_id, delivery.policy, delivery.since)
        case.verdict = known.get(sha256)
        if case.verdict:
            case.reused_from = case.verdict.uri
            return
        with parts.decoders:
            image = open_image(data, max_pixels=parts.max_pixels)
            case.size = image.size
            form = parts.description.preprocessing
            case.pixels = to_square(image, edge=form.edge, fit=form.fit, max_pixels=parts.max_pixels)
    except ImageError as error:
        case.failure = error
    except StorageUnavailableError as error:
        case.later = delivery.attempt < parts.retry_limit
        case.failure = ImageError(Reason.STORAGE_UNAVAILABLE, str(error))


def _judge(cases: Sequence[Case], delivery: _Delivery, parts: Parts) -> None:
    """Judges each distinct content once; its twins in the same message reuse that."""
    policy = delivery.policy
    first: dict[str, Case] = {}
    for case in cases:
        if case.pixels is not None and case.stored is not None:
            first.setdefault(case.stored.sha256, case)
    images = [case.pixels for case in first.values() if case.pixels is not None]
    live = delivery.scan.kind == "live"
    answers = judge(parts.engine, parts.reader, images, policy, live=live) if images else []
    for case, answer in zip(first.values(), answers, strict=True):
        if isinstance(answer, EngineGenerateError):
            case.failure = ImageError(Reason.ENGINE_FAILED, str(answer)[:300])
        else:
            case.settle(answer, policy.explain, parts.detector_id)
    for case in cases:
        if case.pixels is not None and case.stored is not None:
            case.pixels, twin = None, first[case.stored.sha256]
            if twin is not case:
                case.verdict, case.failure, case.reused_from = twin.verdict, twin.failure, twin.ref.uri


@retry(
    retry=retry_if_exception_type(DatabaseUnavailableError),
    wait=wait_random_exponential(max=5),
    stop=stop_after_attempt(4),
    reraise=True,
)
def _save(cases: Sequence[Case], delivery: _Delivery, parts: Parts) -> None:
    """One transaction: verdicts, what lay where, findings, counters. Saving twice is saving once."""
    settled = [case for case in cases if not case.later]
    with transaction(parts.database) as session:
        if lifecycle.is_dropped(session, delivery.scan.id):
            return
        verdict_ids = {
            case.verdict.sha256: add_verdict(session, case.verdict)
            for case in settled
            if case.verdict and not case.reused_from
        }
        # In one order everywhere, so that two messages with the same uris cannot lock each other out.
        for case in sorted((case for case in settled if case.stored), key=lambda case: case.ref.uri):
            remember_object(session, case.remembered(verdict_ids))
        save_findings(
            session,
            delivery.scan,
            [case.finding(delivery.scan, verdict_ids, delivery.attempt + 1) for case in settled],
            again=delivery.again,
            detector_id=parts.detector_id,
        )
