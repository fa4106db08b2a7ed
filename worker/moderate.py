"""Moderates a message: find its scan -> what is known? -> the path of its images -> save.

If several workers died while they worked on the message, its images take the path one by one.
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog
from sqlmodel import Session

from worker.case import Case, Delivery, Failed, Judged, Later, Reused
from worker.database import counters, findings, known, lifecycle, transaction
from worker.database.rows import outcome_of
from worker.database.suspects import deaths_alone, tried_alone
from worker.errors import FakesweepError, ImageError, Reason
from worker.messages import ImageRef, JudgeImages
from worker.metrics.declared import IMAGES, REUSED, SAVE, STAGED
from worker.opinions import asked_here, log_incomplete
from worker.path import Parts, judge_images

log = structlog.get_logger(__name__)

SEVERAL_DEATHS = 2
"""A message is suspect if this many workers died while they worked on it.

One death proves nothing, because machines and clusters kill workers too.
"""

MAX_DEATHS_ALONE = 2
"""An image fails if this many workers died while they judged it alone, as the only suspect image in the process."""


def moderate(job: JudgeImages, message_id: UUID, parts: Parts, *, deaths: int = 0) -> JudgeImages | None:
    """Gives every image of the message its outcome.

    Returns None, or a message with the images whose storage cannot be reached now.

    `deaths`: how many workers died while they worked on this message. After several deaths, or after an unexpected
    error, the message is suspect. Its images are then judged one by one, so that a poison image does not harm the
    others. Raises InvalidMessageError, DatabaseUnavailableError, ShuttingDownError, EngineDeadError.
    """
    with transaction(parts.database) as session:
        opened = _open(session, job, message_id, parts)
        if opened is None:
            return None
        delivery, undecided = opened
        unchanged, refs = _unchanged(session, undecided, delivery)
    later = _save_all(refs, unchanged, delivery, parts, suspect=deaths >= SEVERAL_DEATHS)
    if not later:
        return None
    return job.of_scan(delivery.scan.id, images=tuple(later), attempt=job.attempt + 1)


def _unchanged(session: Session, refs: Sequence[ImageRef], delivery: Delivery) -> tuple[list[Case], list[ImageRef]]:
    """Returns the unchanged images, and the other refs. No image is fetched for an opinion that nobody gives here."""
    unchanged: list[Case] = []
    rest = list(refs)
    rules = [delivery.rule] if all(one.here for one in delivery.also) else [delivery.rule, delivery.rule_here]
    for rule in rules:
        unchanged += known.unchanged(session, rest, rule)
        there = {case.ref.uri for case in unchanged}
        rest = [ref for ref in rest if ref.uri not in there]
    return unchanged, rest


def give_up(job: JudgeImages, message_id: UUID, parts: Parts, detail: str) -> None:
    """Gives the images of a message that cannot be moderated the outcome `failed`, so that its scan can end.

    Raises InvalidMessageError, DatabaseUnavailableError.
    """
    with transaction(parts.database) as session:
        opened = _open(session, job, message_id, parts)
    if opened:
        delivery, undecided = opened
        _save([Case(ref, Failed(ImageError(Reason.ENGINE_FAILED, detail))) for ref in undecided], delivery, parts)


def _open(session: Session, job: JudgeImages, message_id: UUID, parts: Parts) -> tuple[Delivery, list[ImageRef]] | None:
    """Finds the scan of a message, and its images that have no outcome yet.

    Returns None if the images must not be judged now: the scan is paused or cancelled, or its findings are dropped.
    """
    thresholds = parts.description.thresholds.model_dump()
    scan, policy = lifecycle.open_scan(session, job, message_id, **thresholds)
    if lifecycle.set_aside(session, scan, job):
        return None
    if not lifecycle.takes_findings(scan):
        log.info("message_of_ended_scan", scan_id=str(scan.id), images=len(job.images))
        return None
    also = asked_here(session, policy, job.explain, parts)
    policy = policy.of_detector(parts.description.answer_limit, job.explain)
    if job.judge:
        policy = policy.model_copy(update={"judge": True})
    delivery = Delivery(scan, policy, parts.detector_id, job.attempt, job.again, parts.maker_id, also)
    decided = known.decided_uris(session, scan, job.images, again=job.again)
    undecided = [ref for ref in job.images if ref.uri not in decided]
    if not undecided:
        # The worker that saved their outcomes may have died before it updated the scan's status.
        counters.settle(session, scan.id)
    return delivery, undecided


def _save_all(
    refs: Sequence[ImageRef], unchanged: Sequence[Case], delivery: Delivery, parts: Parts, *, suspect: bool
) -> list[ImageRef]:
    """Judges the refs, and saves their ends and those of the unchanged images. Returns the refs that are left for
    later.
    """
    if not suspect:
        try:
            return _save([*unchanged, *judge_images(refs, delivery, parts)], delivery, parts)
        except FakesweepError:
            raise
        except Exception:
            log.exception("message_failed_together", scan_id=str(delivery.scan.id))
    log.warning("images_judged_one_by_one", scan_id=str(delivery.scan.id), images=len(unchanged) + len(refs))
    later: list[ImageRef] = []
    rest = [*_not_saved(unchanged, delivery, parts), *refs]
    deaths = deaths_alone(parts.database, delivery.scan.id, [ref.uri for ref in rest])
    # Images that were alone at a death come last: the others first show whether a worker survives them.
    for ref in sorted(rest, key=lambda one: deaths.get(one.uri, 0)):
        parts.files.check()
        with parts.suspects.take(1, live=parts.live):
            # An image of a scan is judged like a live one here, because all other suspect images wait for it.
            later += _alone(ref, delivery, replace(parts, live=True))
    return later


def _not_saved(unchanged: Sequence[Case], delivery: Delivery, parts: Parts) -> list[ImageRef]:
    """Saves the unchanged images of a suspect message together. If that fails too, returns their refs."""
    try:
        _save(unchanged, delivery, parts)
    except FakesweepError:
        raise
    except Exception:
        log.exception("message_failed_together", scan_id=str(delivery.scan.id))
        return [case.ref for case in unchanged]
    return []


def _alone(ref: ImageRef, delivery: Delivery, parts: Parts) -> list[ImageRef]:
    """Judges a suspect image and saves its end: it may kill the worker, or raise an unexpected error.

    Returns the ref if it is left for later.
    """
    with tried_alone(parts.database, delivery.scan.id, ref.uri) as deaths:
        if deaths:
            # Perhaps a further detector died of it. The last try is without second opinions, so that the main one ends.
            delivery = replace(delivery, also=())
        if deaths >= MAX_DEATHS_ALONE:
            detail = f"{deaths} workers died while they judged this image alone"
        else:
            try:
                return _save(judge_images([ref], delivery, parts), delivery, parts)
            except FakesweepError:
                raise
            except Exception as error:
                log.exception("image_failed_alone", scan_id=str(delivery.scan.id), uri=ref.uri)
                detail = f"unexpected {type(error).__name__}: see the worker's log"
        return _save([Case(ref, Failed(ImageError(Reason.ENGINE_FAILED, detail)))], delivery, parts)


def _save(cases: Sequence[Case], delivery: Delivery, parts: Parts) -> list[ImageRef]:
    """Saves the ends of these images, and counts them. Returns the refs that are left for later."""
    if not cases:
        return []
    with parts.metrics.timed(SAVE):
        saved = findings.save(parts.database, cases, delivery)
    _count(saved, delivery, parts)
    log_incomplete(saved, delivery)
    return [case.ref for case in cases if isinstance(case.end, Later)]


def _count(saved: Sequence[Case], delivery: Delivery, parts: Parts) -> None:
    for case in saved:
        outcome = outcome_of(case.end, delivery.policy) or {}
        parts.metrics.count(
            IMAGES, outcome=outcome["outcome"], verdict=outcome.get("verdict", ""), reason=outcome.get("reason", "")
        )
        if isinstance(case.end, Reused):
            parts.metrics.count(REUSED, found=case.end.found)
        if isinstance(case.end, Judged) and case.end.judgement.stage:
            parts.metrics.count(STAGED, stage=case.end.judgement.stage)
