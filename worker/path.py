"""The path of an image, in `judge_images`: fetch -> hash -> (seen? reuse) -> decode -> judge."""

import hashlib
import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property

from PIL.Image import Image

from worker.case import Case, Content, Delivery, Failed, Judged, KnownVerdict, Later, Reused
from worker.database import Database, known, transaction
from worker.detector.description import DetectorDescription
from worker.detector.engine import Engine
from worker.detector.judge import judge
from worker.detector.verdicts import Judgement, Reader
from worker.errors import EngineGenerateError, ImageError, Reason, StorageUnavailableError
from worker.images import MAX_PIXELS, open_image, to_square
from worker.messages import ImageRef
from worker.slots import Slots
from worker.storage import ImageStore

HELD_BYTES = 32 * 2**20
"""When the fetched files of a message have this many bytes, they are decoded before more are fetched."""


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
    """One suspect image at a time in the whole process, so that we know which one killed it."""
    max_pixels: int = MAX_PIXELS
    retry_limit: int = 5

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
    fetched: list[_Fetched | Case] = []
    held = 0
    while waiting and held < HELD_BYTES:
        image = _fetch(waiting.popleft(), delivery, parts)
        fetched.append(image)
        held += len(image.data) if isinstance(image, _Fetched) else 0
    return [_decode(image, parts) for image in _reuse_seen(fetched, delivery, parts)]


def _fetch(ref: ImageRef, delivery: Delivery, parts: Parts) -> _Fetched | Case:
    parts.slots.check()
    try:
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
        with parts.decoders:
            whole = open_image(image.data, max_pixels=parts.max_pixels)
            size = whole.size
            pixels = to_square(whole, edge=form.edge, fit=form.fit, max_pixels=parts.max_pixels)
    except ImageError as error:
        return Case(image.ref, Failed(error, image.content, size))
    return _Decoded(image.ref, image.content, size, pixels)


def _judge(images: Sequence[_Decoded | Case], delivery: Delivery, parts: Parts) -> list[Case]:
    """Judges each content once. Other images of the message with the same content reuse the result."""
    first: dict[str, _Decoded] = {}
    for image in images:
        if isinstance(image, _Decoded):
            first.setdefault(image.content.sha256, image)
    pixels = [image.pixels for image in first.values()]
    live = delivery.scan.kind == "live"
    answers = judge(parts.engine, parts.reader, pixels, delivery.policy, live=live) if pixels else []
    ends = {sha256: _end(image, answer) for (sha256, image), answer in zip(first.items(), answers, strict=True)}
    cases = []
    for image in images:
        if isinstance(image, _Decoded):
            one, end = first[image.content.sha256], ends[image.content.sha256]
            cases.append(Case(image.ref, end if image is one else _twin(one, end)))
        else:
            cases.append(image)
    return cases


def _end(image: _Decoded, answer: Judgement | EngineGenerateError) -> Judged | Failed:
    if isinstance(answer, EngineGenerateError):
        return Failed(ImageError(Reason.ENGINE_FAILED, str(answer)[:300]), image.content, image.size)
    return Judged(image.content, answer, image.size)


def _twin(first: _Decoded, end: Judged | Failed) -> Reused | Failed:
    """The end of another image with the same content as the first one."""
    if isinstance(end, Failed):
        return end
    width, height = first.size
    return Reused(first.content, KnownVerdict(None, first.ref.uri, end.judgement.score, width, height))
