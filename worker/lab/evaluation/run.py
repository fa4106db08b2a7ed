"""Runs a detector on labelled images with the worker's own steps: fetch, decode, perturb, judge, write down."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from PIL import Image

from worker.detector.description import DetectorDescription
from worker.detector.detector import Detector
from worker.detector.verdicts import Judgement
from worker.errors import EngineGenerateError, ImageError, StorageUnavailableError
from worker.images import DEFAULT_LIMITS, SizeLimits
from worker.lab.datasets.images import cause_of, image_ref
from worker.lab.datasets.records import Cause, Fault, Record
from worker.lab.evaluation.journal import Journal
from worker.lab.evaluation.perturbations import CLEAN
from worker.lab.evaluation.perturbed import squares_under
from worker.lab.evaluation.predictions import Prediction
from worker.messages import Explain, Policy
from worker.storage import ImageStore
from worker.tables import Stage

IMAGES_AT_ONCE = 16
"""How many images are in one call of the engine, as in one message of a scan."""


@dataclass(frozen=True)
class EvaluationParts:
    """The parts of an evaluation. The command makes the real ones, and tests give fakes."""

    description: DetectorDescription
    start: Callable[[], Detector]
    """Called once, and only if there is something to judge."""
    store: ImageStore
    images: str
    """The folder or s3://bucket/prefix under which the records' images are."""
    faults: Callable[[Fault], None]
    """Called with each image that could not be judged; may raise to stop."""
    explain: Explain = Explain.ALL
    perturbations: tuple[str, ...] = (CLEAN,)
    threads: int = 4
    """How many calls of the engine run at once. vLLM batches over all of them."""
    limits: SizeLimits = DEFAULT_LIMITS
    trained_on: tuple[str, ...] = ()
    """The SHA-256 of the datasets that the detector was trained on, as far as that is known."""


@dataclass(frozen=True)
class _Task:
    """A record, and the perturbations under which it must still be judged."""

    record: Record
    perturbations: tuple[str, ...]


def judge_records(records: Sequence[Record], journal: Journal, parts: EvaluationParts) -> Iterator[int]:
    """Judges the images that the journal does not have yet, in the records' order. Yields how many images are done.

    Each perturbation of a record counts as one image. `parts.faults` is called with each image that cannot be read or
    judged. Raises EngineDeadError.
    """
    tasks = unjudged(records, journal.predictions(), parts.perturbations)
    done = len(records) * len(parts.perturbations) - sum(len(task.perturbations) for task in tasks)
    yield done
    if not tasks:
        return
    with closing(parts.start()) as detector:
        for chunk, predictions in _in_order(_chunks(tasks), detector, parts):
            journal.add(predictions)
            done += sum(len(task.perturbations) for task in chunk)
            yield done


def unjudged(records: Sequence[Record], known: Sequence[Prediction], perturbations: Sequence[str]) -> list[_Task]:
    """Returns what must still be judged. A kill may have come between two perturbations of one image."""
    there = {(one.image, one.perturbation) for one in known}
    tasks = (
        _Task(record, tuple(one for one in perturbations if (record.image, one) not in there)) for record in records
    )
    return [task for task in tasks if task.perturbations]


def _chunks(tasks: Sequence[_Task]) -> Iterator[list[_Task]]:
    """Yields about IMAGES_AT_ONCE images at a time. All perturbations of an image go together: it is fetched once."""
    chunk: list[_Task] = []
    for task in tasks:
        chunk.append(task)
        if sum(len(one.perturbations) for one in chunk) >= IMAGES_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _in_order(
    chunks: Iterator[list[_Task]], detector: Detector, parts: EvaluationParts
) -> Iterator[tuple[list[_Task], list[Prediction]]]:
    """Yields each chunk with its predictions. Several chunks run at once, but results and faults keep their order."""
    waiting: deque[tuple[list[_Task], Future[tuple[list[Prediction], list[Fault]]]]] = deque()
    with ThreadPoolExecutor(parts.threads, thread_name_prefix="evaluate") as pool:
        try:
            for chunk in chunks:
                waiting.append((chunk, pool.submit(_predict, chunk, detector, parts)))
                if len(waiting) > parts.threads:
                    yield _told(*waiting.popleft(), parts)
            while waiting:
                yield _told(*waiting.popleft(), parts)
        finally:
            pool.shutdown(cancel_futures=True)


def _told(
    chunk: list[_Task], result: Future[tuple[list[Prediction], list[Fault]]], parts: EvaluationParts
) -> tuple[list[_Task], list[Prediction]]:
    predictions, faults = result.result()
    for fault in faults:
        parts.faults(fault)
    return chunk, predictions


def _predict(
    chunk: Sequence[_Task], detector: Detector, parts: EvaluationParts
) -> tuple[list[Prediction], list[Fault]]:
    """Fetches and decodes each image once, perturbs it, and judges it like an image of a scan."""
    wanted: list[tuple[Record, str, str]] = []
    squares: list[Image.Image] = []
    faults: list[Fault] = []
    for task in chunk:
        try:
            data = parts.store.fetch(image_ref(task.record.image, parts.images))
            form, limits = parts.description.preprocessing, parts.limits
            squares += squares_under(task.perturbations, data, task.record.image, form, limits)
            sha256 = hashlib.sha256(data).hexdigest()
            wanted += [(task.record, sha256, one) for one in task.perturbations]
        except (ImageError, StorageUnavailableError) as error:
            faults.append(Fault(task.record.line, task.record.image, cause_of(error), str(error)))
    judgements = detector.judge(squares, Policy(explain=parts.explain)) if squares else []
    predictions = []
    for (record, sha256, perturbation), judgement in zip(wanted, judgements, strict=True):
        if isinstance(judgement, EngineGenerateError):
            detail = f"{perturbation}: {judgement}"[:300]
            faults.append(Fault(record.line, record.image, Cause.ENGINE_FAILED, detail))
        else:
            predictions.append(_prediction(record, sha256, perturbation, judgement, parts.description))
    return predictions, faults


def _prediction(
    record: Record, sha256: str, perturbation: str, judgement: Judgement, description: DetectorDescription
) -> Prediction:
    """Without reasons, there is nothing to compare with the reference answer."""
    wordless = description.answer_limit is None or (judgement.stage is Stage.FIRST and not judgement.completion)
    return Prediction(
        image=record.image,
        sha256=sha256,
        label=record.label,
        category=record.category,
        generator=record.generator,
        perturbation=perturbation,
        verdict=judgement.answer,
        score=judgement.score,
        log_odds=judgement.log_odds,
        answer=judgement.completion.strip(),
        reference=None if wordless else record.answer,
    )
