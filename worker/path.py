"""The path of an image, in `judge_images`: fetch -> hash -> (seen? reuse) -> what does it say? -> decode -> judge.

One fetch and one decode serve all detectors of the scan: the main one, and those that give second opinions.

Near duplicates are found later by the PDQ hash that is made of the decoded image. No verdict is reused by similarity.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from PIL.Image import Image

from worker.budget import HELD_BYTES
from worker.case import Case, Content, Delivery, Failed, Judged, Known, KnownVerdict, Later, Opinion, Reused
from worker.database import known, transaction
from worker.decoding import Decoded, Fetched, decode, hashed, with_provenance
from worker.detector.verdicts import Judgement
from worker.errors import EngineGenerateError, ImageError, Reason, StorageUnavailableError
from worker.messages import ImageRef
from worker.metrics.declared import ENGINE, FETCH, TOKENS
from worker.opinions import of_twin, second_opinions
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
        return [_decode(image, parts) for image in _reuse_seen(fetched, delivery, parts)]


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
    """Reuses stored verdicts on the same contents. Contents without a hash are decoded first, and get one.

    If a detector of the scan has no verdict on a content, the image stays on its way.
    """
    contents = {image.content.sha256 for image in images if isinstance(image, Fetched)}
    if not contents:
        return list(images)
    with transaction(parts.database) as session:
        verdicts = known.seen(session, contents, delivery.rule, parts.provenance.revision if parts.provenance else None)
        further = {one.detector_id: known.seen(session, contents, one) for one in delivery.rule.also}
    return [_with_known(one, verdicts, further, delivery, parts) if isinstance(one, Fetched) else one for one in images]


def _with_known(
    image: Fetched,
    verdicts: Mapping[str, KnownVerdict],
    further: Mapping[int, Mapping[str, KnownVerdict]],
    delivery: Delivery,
    parts: Parts,
) -> Fetched | Case:
    """Ends the image if no detector of this worker must look at its content. Else notes the verdicts that there are."""
    sha256 = image.content.sha256
    opinions = tuple(
        Opinion.of(asked, one.score, one.id)
        for asked in delivery.also
        if (one := further[asked.detector_id].get(sha256)) is not None
    )
    there = {one.detector_id for one in opinions}
    lacking = any(asked.here and asked.detector_id not in there for asked in delivery.also)
    if (verdict := verdicts.get(sha256)) is None or lacking:
        return replace(image, known=Known(verdict, opinions))
    if not verdict.has_provenance:
        image = with_provenance(image, parts)
    content = image.content if verdict.has_hash else hashed(image, parts)
    return Case(image.ref, Reused(content, verdict), opinions)


def _decode(image: Fetched | Case, parts: Parts) -> Decoded | Case:
    if isinstance(image, Case):
        return image
    verdict = image.known.verdict
    if verdict is None:
        return decode(with_provenance(image, parts), parts)
    opened = decode(image if verdict.has_provenance else with_provenance(image, parts), parts)
    if isinstance(opened, Case):
        # Only a second opinion is lacking. If it can no longer be decoded, because of lower limits, it has its verdict.
        return Case(image.ref, Reused(image.content, verdict), image.known.opinions)
    return opened


def _judge(images: Sequence[Decoded | Case], delivery: Delivery, parts: Parts) -> list[Case]:
    """Judges each content once. Other images of the message with the same content reuse the result."""
    first: dict[str, Decoded] = {}
    for image in images:
        if isinstance(image, Decoded):
            first.setdefault(image.content.sha256, image)
    ends = _ends(first, delivery, parts)
    # Where the main detector failed, the image has no verdict that an opinion could be beside.
    asked = [image for sha256, image in first.items() if not isinstance(ends[sha256], Failed)]
    opinions = second_opinions(asked, delivery, parts) if delivery.also and asked else {}
    cases = []
    for image in images:
        if isinstance(image, Decoded):
            sha256 = image.content.sha256
            one, end, said = first[sha256], ends[sha256], opinions.get(sha256, ())
            cases.append(
                Case(image.ref, end, said) if image is one else Case(image.ref, _twin(one, end), of_twin(said))
            )
        else:
            cases.append(image)
    return cases


def _ends(images: Mapping[str, Decoded], delivery: Delivery, parts: Parts) -> dict[str, Judged | Reused | Failed]:
    """Asks the main detector about the contents on which it has no verdict yet. Both are by SHA-256."""
    new = {sha256: image for sha256, image in images.items() if image.known.verdict is None}
    pixels = [image.pixels for image in new.values()]
    answers = _ask(pixels, delivery, parts) if pixels else []
    ends: dict[str, Judged | Reused | Failed] = {
        sha256: _end(image, answer) for (sha256, image), answer in zip(new.items(), answers, strict=True)
    }
    for sha256, image in images.items():
        if image.known.verdict is not None:
            ends[sha256] = Reused(image.content, image.known.verdict)
    return ends


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


def _twin(first: Decoded, end: Judged | Reused | Failed) -> Reused | Failed:
    """The end of another image with the same content as the first one."""
    if not isinstance(end, Judged):
        return end
    width, height = first.size
    return Reused(first.content, KnownVerdict(None, first.ref.uri, end.judgement.score, width, height), found="twin")
