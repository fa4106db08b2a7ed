"""Asks the further detectors of a scan for second opinions, on the same pixels that the main detector sees.

Whatever happens to a second opinion, the main finding stays: an opinion that cannot be given is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog
from PIL.Image import Image
from sqlmodel import Session

from worker.case import Asked, Case, Delivery, Failed, Opinion
from worker.database.asking import asked_of
from worker.database.detectors import further_detectors
from worker.decoding import Decoded
from worker.detector.detector import Detector
from worker.detector.verdicts import Judgement
from worker.errors import EngineGenerateError, FakesweepError
from worker.messages import Explain, FilledPolicy
from worker.parts import Parts

log = structlog.get_logger(__name__)

Answers = Sequence[Judgement | EngineGenerateError | None]


def asked_here(session: Session, policy: FilledPolicy, explain: Explain | None, parts: Parts) -> tuple[Asked, ...]:
    """Returns what a scan asks of its further detectors, in the order in which the scan names them.

    Logs which ones this worker lacks: only their stored verdicts are reused, and other opinions will be missing. The
    main detector gives no second opinion.
    """
    held = {one.name: one for one in parts.also}
    if lacking := [name for name in policy.also if name not in held]:
        log.warning("second_opinions_missing", detectors=lacking, remedy="add them to FAKESWEEP_ALSO of this worker")
    known = further_detectors(session) if lacking else {}
    asked = [
        held[name].asked(policy, explain) if name in held else asked_of(known[name], policy, explain)
        for name in policy.also
        if name in held or name in known
    ]
    return tuple(one for one in asked if one and one.detector_id != parts.detector_id)


def second_opinions(
    images: Sequence[Decoded], delivery: Delivery, parts: Parts
) -> Mapping[str, tuple[Opinion, ...]]:  # fmt: skip
    """Returns the second opinions on each image, by the SHA-256 of its content. No two images have the same content.

    What is known already is not asked again. Raises EngineDeadError.
    """
    found = {one.content.sha256: {known.detector_id: known for known in one.known.opinions} for one in images}
    for asked in (one for one in delivery.also if one.here):
        lacking = [one for one in images if asked.detector_id not in found[one.content.sha256]]
        pixels = [one.pixels for one in lacking]
        answers = _ask(_detector(asked, parts), asked, pixels, live=parts.live) if pixels else []
        for image, answer in zip(lacking, answers, strict=True):
            if isinstance(answer, Judgement):
                opinion = Opinion.of(asked, answer.score, judgement=answer)
                found[image.content.sha256][asked.detector_id] = opinion
    order = [asked.detector_id for asked in delivery.also]
    return {sha256: tuple(said[one] for one in order if one in said) for sha256, said in found.items()}


def of_twin(opinions: Sequence[Opinion]) -> tuple[Opinion, ...]:
    """The same opinions for another image with the same content. Their verdicts are added once."""
    return tuple(replace(one, judgement=None) for one in opinions)


def log_incomplete(saved: Sequence[Case], delivery: Delivery) -> None:
    """Logs how many of these saved images lack a second opinion that this worker was to give."""
    here = {one.detector_id for one in delivery.also if one.here}
    lacking = [
        case.ref.uri
        for case in saved
        if not isinstance(case.end, Failed) and here - {one.detector_id for one in case.opinions}
    ]
    if lacking:
        log.warning("second_opinions_incomplete", scan_id=str(delivery.scan.id), images=len(lacking), first=lacking[0])


def _detector(asked: Asked, parts: Parts) -> Detector:
    return next(one.detector for one in parts.also if one.detector_id == asked.detector_id)


def _ask(detector: Detector, asked: Asked, pixels: Sequence[Image], *, live: bool) -> Answers:
    """Asks about all images together. After an unexpected error, asks about each alone, so that one poison image does
    not take the opinions from the others.
    """
    try:
        return detector.judge(pixels, asked.policy, live=live)
    except FakesweepError:
        raise
    except Exception:
        log.exception("second_opinion_failed", detector=detector.description.name, images=len(pixels))
        if len(pixels) == 1:
            return [None]
        return [_ask(detector, asked, [one], live=live)[0] for one in pixels]
