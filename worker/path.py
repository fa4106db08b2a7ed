"""The path of an image, in `judge_images`: fetch -> hash -> (seen? reuse) -> what does it say? -> decode -> judge.

Near duplicates are found later by the PDQ hash that is made of the decoded image. No verdict is reused by similarity.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence

from PIL.Image import Image

from worker.budget import HELD_BYTES
from worker.case import Case, Content, Delivery, Failed, Judged, KnownVerdict, Later, Reused
from worker.database import known, transaction
from worker.decoding import Decoded, Fetched, decode, hashed, with_provenance
from worker.detector.verdicts import Judgement
from worker.errors import EngineGenerateError, ImageError, Reason, StorageUnavailableError
from worker.messages import ImageRef
from worker.metrics.declared import ENGINE, FETCH, TOKENS
from worker.parts import Parts

__all__ = ["Parts", "judge_images"]


def judge_images(refs: Sequence[ImageRef], delivery: Delivery, parts: Parts) -> list[Case]:
    """Fetch -> hash -> (seen? reuse) -> what does it say? -> decode -> judge.

    Each step passes on the images that have their end already.

    Raises DatabaseUnavailableError, ShuttingDownError, EngineDeadError.
    """
    waiting = deque(refs)
    opened: list[Decoded | Case] = []
    while waiting:
        opened += _open_some(waiting, delivery, parts)
    return _judge(opened, delivery, parts)


def _open_some(waiting: deque[ImageRef], delivery: Delivery, parts: Parts) -> list[Decoded | Case]:
    """Fetches images until they have HELD_BYTES, and decodes them. Their bytes are released with this call."""
    with parts.files.take(_expected_bytes(waiting, parts), live=parts.live) as held:
        fetched: list[Fetched | Case] = []
        size = 0
        while waiting and size < HELD_BYTES:
            image = _fetch(waiting.popleft(), delivery, parts)
            fetched.append(image)
            size += len(image.data) if isinstance(image, Fetched) else 0
            if size > held.size:  # a message may name sizes that are wrong
                break
        held.shrink(size)
        return [decode(with_provenance(image, parts), parts) for image in _reuse_seen(fetched, delivery, parts)]


def _expected_bytes(refs: Iterable[ImageRef], parts: Parts) -> int:
    """The most that _open_some fetches, if sizes are right. Without an ETag the object may be another one by now."""
    sizes = [min(ref.size, parts.max_bytes) if ref.size is not None and ref.etag else parts.max_bytes for ref in refs]
    return min(sum(sizes), HELD_BYTES + max(sizes))


def _fetch(ref: ImageRef, delivery: Delivery, parts: Parts) -> Fetched | Case:
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
    return Fetched(ref, Content(hashlib.sha256(data).hexdigest(), len(data)), data)


def _reuse_seen(images: Sequence[Fetched | Case], delivery: Delivery, parts: Parts) -> list[Fetched | Case]:
    """Reuses stored verdicts on the same contents. Contents without a hash are decoded first, and get one."""
    contents = {image.content.sha256 for image in images if isinstance(image, Fetched)}
    if not contents:
        return list(images)
    with transaction(parts.database) as session:
        verdicts = known.seen(session, contents, delivery.rule, parts.provenance.revision if parts.provenance else None)
    return [
        _reused(image, verdicts[image.content.sha256], parts)
        if isinstance(image, Fetched) and image.content.sha256 in verdicts
        else image
        for image in images
    ]


def _reused(image: Fetched, verdict: KnownVerdict, parts: Parts) -> Case:
    if not verdict.has_provenance:
        image = with_provenance(image, parts)
    content = image.content if verdict.has_hash else hashed(image, parts)
    return Case(image.ref, Reused(content, verdict))


def _judge(images: Sequence[Decoded | Case], delivery: Delivery, parts: Parts) -> list[Case]:
    """Judges each content once. Other images of the message with the same content reuse the result."""
    first: dict[str, Decoded] = {}
    for image in images:
        if isinstance(image, Decoded):
            first.setdefault(image.content.sha256, image)
    pixels = [image.pixels for image in first.values()]
    answers = _ask(pixels, delivery, parts) if pixels else []
    ends = {sha256: _end(image, answer) for (sha256, image), answer in zip(first.items(), answers, strict=True)}
    cases = []
    for image in images:
        if isinstance(image, Decoded):
            one, end = first[image.content.sha256], ends[image.content.sha256]
            cases.append(Case(image.ref, end if image is one else _twin(one, end)))
        else:
            cases.append(image)
    return cases


def _ask(pixels: Sequence[Image], delivery: Delivery, parts: Parts) -> list[Judgement | EngineGenerateError]:
    with parts.metrics.timed(ENGINE):
        answers = parts.detector.judge(pixels, delivery.policy, live=parts.live)
    judgements = [answer for answer in answers if isinstance(answer, Judgement)]
    parts.metrics.count(TOKENS, sum(one.prompt_tokens for one in judgements), kind="prompt")
    parts.metrics.count(TOKENS, sum(one.completion_tokens for one in judgements), kind="completion")
    return answers


def _end(image: Decoded, answer: Judgement | EngineGenerateError) -> Judged | Failed:
    if isinstance(answer, EngineGenerateError):
        return Failed(ImageError(Reason.ENGINE_FAILED, str(answer)[:300]), image.content, image.size)
    return Judged(image.content, answer, image.size)


def _twin(first: Decoded, end: Judged | Failed) -> Reused | Failed:
    """The end of another image with the same content as the first one."""
    if isinstance(end, Failed):
        return end
    width, height = first.size
    return Reused(first.content, KnownVerdict(None, first.ref.uri, end.judgement.score, width, height), found="twin")
