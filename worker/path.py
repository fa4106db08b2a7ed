"""The path of an image, in `judge_images`: fetch -> hash -> (seen? reuse) -> decode -> judge."""

import hashlib
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property

from PIL.Image import Image

from worker.budget import HELD_BYTES, Budget
from worker.case import Case, Content, Delivery, Failed, Judged, KnownVerdict, Later, Reused
from worker.database import Database, known, transaction
from worker.detector.description import DetectorDescription
from worker.detector.engine import Engine
from worker.detector.judge import judge
from worker.detector.verdicts import Judgement, Reader
from worker.errors import EngineGenerateError, ImageError, Reason, StorageUnavailableError
from worker.image_memory import decode_bytes
from worker.images import DEFAULT_LIMITS, SizeLimits, open_for, to_square
from worker.in_hand import InHand
from worker.messages import SCAN_QUEUE, ImageRef
from worker.metrics import Metrics
from worker.metrics.declared import DECODE, ENGINE, FETCH, TOKENS
from worker.storage import ImageStore


@dataclass(frozen=True)
class Parts:
    """What the path works with; put together in worker.__main__, or from fakes in a test."""

    store: ImageStore
    database: Database
    engine: Engine
    description: DetectorDescription
    detector_id: int
    files: Budget = field(default_factory=lambda: Budget(2**30))
    """Bytes of fetched files that are not decoded yet."""
    pixels: Budget = field(default_factory=lambda: Budget(3 * 2**30))
    """Bytes that decoders hold. Apart from `files`, so that whoever holds a file can always go on."""
    decoders: AbstractContextManager[object] = field(default_factory=lambda: threading.BoundedSemaphore(2))
    """As many images in full size at once as there are CPUs."""
    suspects: Budget = field(default_factory=lambda: Budget(1))
    """Room for one suspect image in the whole process, so that we know which one killed it."""
    in_hand: InHand = field(default_factory=InHand)
    max_bytes: int = 64 * 2**20
    limits: SizeLimits = DEFAULT_LIMITS
    retry_limit: int = 5
    live: bool = False
    """Whether these parts are for live images, which may use what scans leave free in the budgets."""
    metrics: Metrics = field(default_factory=lambda: Metrics.declare().bound(queue=SCAN_QUEUE))
    """What is counted and measured, for the queue of these parts."""

    @cached_property
    def reader(self) -> Reader:
        """Reads the engine's answers as the description says."""
        return Reader(self.description)


@dataclass(frozen=True)
class _Fetched:
    """An image's bytes, on their way."""

    ref: ImageRef
    content: Content
    data: bytes


@dataclass(frozen=True)
class _Decoded:
    """What the detector sees of an image: RGB `pixels`. `size` is (width, height) of the upright image, in pixels."""

    ref: ImageRef
    content: Content
    size: tuple[int, int]
    pixels: Image


def judge_images(refs: Sequence[ImageRef], delivery: Delivery, parts: Parts) -> list[Case]:
    """Fetch -> hash -> (seen? reuse) -> decode -> judge. Each step passes on the images that have their end already.

    Raises DatabaseUnavailableError, ShuttingDownError, EngineDeadError.
    """
    waiting = deque(refs)
    opened: list[_Decoded | Case] = []
    while waiting:
        opened += _open_some(waiting, delivery, parts)
    return _judge(opened, delivery, parts)


def _open_some(waiting: deque[ImageRef], delivery: Delivery, parts: Parts) -> list[_Decoded | Case]:
    """Fetches images until they have HELD_BYTES, and decodes them. Their bytes are released with this call."""
    with parts.files.take(_expected_bytes(waiting, parts), live=parts.live) as held:
        fetched: list[_Fetched | Case] = []
        size = 0
        while waiting and size < HELD_BYTES:
            image = _fetch(waiting.popleft(), delivery, parts)
            fetched.append(image)
            size += len(image.data) if isinstance(image, _Fetched) else 0
            if size > held.size:  # a message may name sizes that are wrong
                break
        held.shrink(size)
        return [_decode(image, parts) for image in _reuse_seen(fetched, delivery, parts)]


def _expected_bytes(refs: Iterable[ImageRef], parts: Parts) -> int:
    """The most that _open_some fetches, if sizes are right. Without an ETag the object may be another one by now."""
    sizes = [min(ref.size, parts.max_bytes) if ref.size is not None and ref.etag else parts.max_bytes for ref in refs]
    return min(sum(sizes), HELD_BYTES + max(sizes))


def _fetch(ref: ImageRef, delivery: Delivery, parts: Parts) -> _Fetched | Case:
    parts.files.check()
    try:
        with parts.metrics.timed(FETCH):
            data = parts.store.fetch(ref)
    except ImageError as error:
        return Case(ref, Failed(error))
    except StorageUnavailableError as error:
        if delivery.attempt < parts.retry_limit:
            return Case(ref, Later())
        return Case(ref, Failed(ImageError(Reason.STORAGE_UNAVAILABLE, str(error))))
    return _Fetched(ref, Content(hashlib.sha256(data).hexdigest(), len(data)), data)


def _reuse_seen(images: Sequence[_Fetched | Case], delivery: Delivery, parts: Parts) -> list[_Fetched | Case]:
    """Reuses stored verdicts on the same contents."""
    contents = {image.content.sha256 for image in images if isinstance(image, _Fetched)}
    if not contents:
        return list(images)
    with transaction(parts.database) as session:
        verdicts = known.seen(session, contents, delivery.rule)
    return [
        Case(image.ref, Reused(image.content, verdicts[image.content.sha256]))
        if isinstance(image, _Fetched) and image.content.sha256 in verdicts
        else image
        for image in images
    ]


def _decode(image: _Fetched | Case, parts: Parts) -> _Decoded | Case:
    if isinstance(image, Case):
        return image
    form = parts.description.preprocessing
    size = None
    try:
        needed = decode_bytes(
            image.data,
            edge=form.edge,
            fit=form.fit,
            decoding=form.decode,
            limits=parts.limits,
        )
        _check_memory(needed, parts)
        with parts.pixels.take(needed, live=parts.live), parts.decoders, parts.metrics.timed(DECODE):
            opened = open_for(
                image.data,
                edge=form.edge,
                decoding=form.decode,
                limits=parts.limits,
            )
            size = opened.size
            pixels = to_square(opened.pixels, edge=form.edge, fit=form.fit, max_pixels=parts.limits.max_pixels)
    except ImageError as error:
        return Case(image.ref, Failed(error, image.content, size))
    return _Decoded(image.ref, image.content, size, pixels)


def _check_memory(needed: int, parts: Parts) -> None:
    if needed > (limit := parts.pixels.limit(live=parts.live)):
        detail = (
            f"decoding needs up to {needed >> 20} MiB, and {limit >> 20} MiB are allowed "
            "(raise FAKESWEEP_IMAGE_MEMORY_MIB)"
        )
        raise ImageError(Reason.TOO_MANY_PIXELS, detail)


def _judge(images: Sequence[_Decoded | Case], delivery: Delivery, parts: Parts) -> list[Case]:
    """Judges each content once. Other images of the message with the same content reuse the result."""
    first: dict[str, _Decoded] = {}
    for image in images:
        if isinstance(image, _Decoded):
            first.setdefault(image.content.sha256, image)
    pixels = [image.pixels for image in first.values()]
    answers = _ask(pixels, delivery, parts) if pixels else []
    ends = {sha256: _end(image, answer) for (sha256, image), answer in zip(first.items(), answers, strict=True)}
    cases = []
    for image in images:
        if isinstance(image, _Decoded):
            one, end = first[image.content.sha256], ends[image.content.sha256]
            cases.append(Case(image.ref, end if image is one else _twin(one, end)))
        else:
            cases.append(image)
    return cases


def _ask(pixels: Sequence[Image], delivery: Delivery, parts: Parts) -> list[Judgement | EngineGenerateError]:
    with parts.metrics.timed(ENGINE):
        answers = judge(parts.engine, parts.reader, pixels, delivery.policy, live=parts.live)
    judgements = [answer for answer in answers if isinstance(answer, Judgement)]
    parts.metrics.count(TOKENS, sum(one.prompt_tokens for one in judgements), kind="prompt")
    parts.metrics.count(TOKENS, sum(one.completion_tokens for one in judgements), kind="completion")
    return answers


def _end(image: _Decoded, answer: Judgement | EngineGenerateError) -> Judged | Failed:
    if isinstance(answer, EngineGenerateError):
        return Failed(ImageError(Reason.ENGINE_FAILED, str(answer)[:300]), image.content, image.size)
    return Judged(image.content, answer, image.size)


def _twin(first: _Decoded, end: Judged | Failed) -> Reused | Failed:
    """The end of another image with the same content as the first one."""
    if isinstance(end, Failed):
        return end
    width, height = first.size
    return Reused(first.content, KnownVerdict(None, first.ref.uri, end.judgement.score, width, height), found="twin")
