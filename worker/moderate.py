"""Moderates a message: find its scan -> what is known? -> the path of its images -> save.

The images of a redelivered message take the path one by one.
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from worker.case import Case, Delivery, Failed, Later
from worker.database import counters, findings, known, lifecycle, transaction
from worker.database.suspects import tried_alone
from worker.errors import FakesweepError, ImageError, Reason
from worker.messages import ImageRef, JudgeImages
from worker.path import Parts, judge_images

log = structlog.get_logger(__name__)

MAX_DEATHS_ALONE = 2
"""After this many deaths of the worker with only this image in it, the image is not tried again."""


def moderate(job: JudgeImages, message_id: UUID, parts: Parts, *, redelivered: bool = False) -> JudgeImages | None:
    """Gives every image of the message its outcome.

    Returns a message with the images whose storage cannot be reached now, else None.

    A redelivered message is suspect, and so is one that failed with an unexpected error: its images
    are taken one by one, so that a poison image cannot take the others with it.
    Raises InvalidMessageError, DatabaseUnavailableError, ShuttingDownError, EngineDeadError.
    """
    with transaction(parts.database) as session:
        thresholds = parts.description.thresholds.model_dump()
        scan, policy = lifecycle.open_scan(session, job, message_id, **thresholds)
        if lifecycle.set_aside(session, scan, job):
            return None
        if not lifecycle.takes_findings(scan):
            log.info("message_of_ended_scan", scan_id=str(scan.id), images=len(job.images))
            return None
        policy = policy.of_detector(parts.description.answer.max_tokens, job.explain)
        delivery = Delivery(scan, policy, parts.detector_id, job.attempt, job.again)
        decided = known.decided_uris(session, scan, job.images, again=job.again)
        undecided = [ref for ref in job.images if ref.uri not in decided]
        if not undecided:
            # The worker that saved them may have died before it ended the scan.
            counters.settle(session, scan.id)
        unchanged = known.unchanged(session, undecided, delivery.rule)
    there = {case.ref.uri for case in unchanged}
    refs = [ref for ref in undecided if ref.uri not in there]
    later = _save_all(refs, unchanged, delivery, parts, suspect=redelivered)
    if not later:
        return None
    return job.model_copy(update={"scan_id": scan.id, "images": tuple(later), "attempt": job.attempt + 1})


def _save_all(
    refs: Sequence[ImageRef], unchanged: Sequence[Case], delivery: Delivery, parts: Parts, *, suspect: bool
) -> list[ImageRef]:
    """Saves the unchanged images and what becomes of the refs. Returns what is left for later."""
    if not suspect:
        try:
            return _save([*unchanged, *judge_images(refs, delivery, parts)], delivery, parts)
        except FakesweepError:
            raise
        except Exception:
            log.exception("message_failed_together", scan_id=str(delivery.scan.id))
    later: list[ImageRef] = []
    for ref in [*_not_saved(unchanged, delivery, parts), *refs]:
        parts.files.check()
        with parts.suspects.take(1, live=parts.live):
            # As a live one, of a scan too: all other suspects wait for it.
            later += _alone(ref, delivery, replace(parts, live=True))
    return later


def _not_saved(unchanged: Sequence[Case], delivery: Delivery, parts: Parts) -> list[ImageRef]:
    """Saves the unchanged images of a message that does not go together. Returns them when that fails, too."""
    try:
        _save(unchanged, delivery, parts)
    except FakesweepError:
        raise
    except Exception:
        log.exception("message_failed_together", scan_id=str(delivery.scan.id))
        return [case.ref for case in unchanged]
    return []


def _alone(ref: ImageRef, delivery: Delivery, parts: Parts) -> list[ImageRef]:
    """The path for a suspect: an image that may kill the worker, or that fails with an unexpected error."""
    with tried_alone(parts.database, delivery.scan.id, ref.uri) as deaths:
        if deaths >= MAX_DEATHS_ALONE:
            detail = f"the worker ended {deaths} times while it had this image alone"
        else:
            try:
                return _save(judge_images([ref], delivery, parts), delivery, parts)
            except FakesweepError:
                raise
            except Exception as error:
                log.exception("image_failed_alone", scan_id=str(delivery.scan.id), uri=ref.uri)
                detail = f"unforeseen {type(error).__name__}, see the worker's log"
        return _save([Case(ref, Failed(ImageError(Reason.ENGINE_FAILED, detail)))], delivery, parts)


def _save(cases: Sequence[Case], delivery: Delivery, parts: Parts) -> list[ImageRef]:
    """Saves the ends of these images. Returns what is left for later."""
    findings.save(parts.database, cases, delivery)
    return [case.ref for case in cases if isinstance(case.end, Later)]
