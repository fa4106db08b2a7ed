"""Turns a labelled image into its explanation: asks each annotator, then the aggregator about their answers."""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from worker.detector.description import VlmDescription
from worker.detector.verdicts import Reader
from worker.errors import AnnotationStoppedError, ImageError, NotAnnotatedError, StorageUnavailableError
from worker.images import DEFAULT_LIMITS, SizeLimits, open_image
from worker.lab.annotation.answers import AgreedPoint, Point, agreed, contradicts_label, explanation, full_answer
from worker.lab.annotation.asking import AGGREGATOR, Asked, Asking
from worker.lab.annotation.costs import Costs
from worker.lab.annotation.faults import AnnotationCause
from worker.lab.annotation.journal import Journal
from worker.lab.annotation.pictures import data_url
from worker.lab.annotation.prompts import Prompts
from worker.lab.annotation.stop import Stop
from worker.lab.datasets.images import cause_of, image_ref
from worker.lab.datasets.records import Fault, Record
from worker.storage import ImageStore

FAILURES_IN_A_ROW = 10
"""After so many records that were refused or not answered in a row, the cause is not the records."""
_NOT_SERVED = (AnnotationCause.REFUSED, AnnotationCause.NOT_ANSWERED)


@dataclass(frozen=True)
class Annotated:
    """A record with the answer that the detector should give, explanation included."""

    record: Record
    answer: str


@dataclass(frozen=True)
class AnnotationParts:
    """The parts of the pipeline. The command makes the real ones, and tests give fakes."""

    annotators: Sequence[Asked]
    aggregator: Asked
    prompts: Prompts
    journal: Journal
    costs: Costs
    stop: Stop
    description: VlmDescription
    store: ImageStore
    images: str
    """The folder or s3://bucket/prefix under which the records' images are."""
    concurrency: int = 4
    """How many records are worked on at once. This also limits the requests in flight."""
    limits: SizeLimits = DEFAULT_LIMITS

    @cached_property
    def reader(self) -> Reader:
        """Reads an answer as the worker would."""
        return Reader(self.description)


def annotate(records: Sequence[Record], parts: AnnotationParts) -> Generator[Annotated | Fault]:
    """Yields each record with its explanation, or why it has none, in order.

    Raises the errors that end the whole run: ConfigurationError, AnnotationStoppedError. Before that, requests in
    flight are finished and their answers are written down.
    """
    waiting: deque[Future[Annotated | Fault]] = deque()
    in_a_row = 0
    with ThreadPoolExecutor(parts.concurrency, thread_name_prefix="annotate") as pool:
        try:
            for record in records:
                waiting.append(pool.submit(_annotated, record, parts))
                if len(waiting) > 2 * parts.concurrency:
                    yield (result := waiting.popleft().result())
                    in_a_row = _failures(result, in_a_row)
            while waiting:
                yield (result := waiting.popleft().result())
                in_a_row = _failures(result, in_a_row)
        except BaseException as error:
            parts.stop.because(error)
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _failures(result: Annotated | Fault, in_a_row: int) -> int:
    if isinstance(result, Fault) and str(result.cause) in _NOT_SERVED:
        if in_a_row + 1 == FAILURES_IN_A_ROW:
            raise AnnotationStoppedError(f"{FAILURES_IN_A_ROW} records in a row failed, the last: {result.detail}")
        return in_a_row + 1
    return 0


def _annotated(record: Record, parts: AnnotationParts) -> Annotated | Fault:
    try:
        return Annotated(record, explain(record, parts))
    except NotAnnotatedError as error:
        return Fault(record.line, record.image, error.cause, error.detail)
    except BaseException as error:
        parts.stop.because(error)
        raise


def explain(record: Record, parts: AnnotationParts) -> str:
    """Asks the annotators about one record, aggregates and checks. Returns the answer that the detector should give.

    Raises NotAnnotatedError for this record, and the errors of Asked that end the whole run.
    """
    asking = Asking(record.image, parts.journal, parts.costs, parts.stop)
    question = parts.prompts.for_annotator(record)
    lists = [
        asking.good_list(number, annotator, lambda: _with_image(question, record, parts), Point)
        for number, annotator in enumerate(parts.annotators, start=1)
    ]
    if sum(map(bool, lists)) < min(2, len(lists)):
        raise NotAnnotatedError(AnnotationCause.NOTHING_AGREED, "too few annotators saw anything")
    request = parts.prompts.for_aggregator(record, lists)
    points = agreed(asking.good_list(AGGREGATOR, parts.aggregator, lambda: request, AgreedPoint), lists)
    if not points:
        raise NotAnnotatedError(AnnotationCause.NOTHING_AGREED, "no observation is left after aggregation")
    answer = full_answer(record, explanation(points), parts.description.answer)
    if contradicts_label(record, answer, parts.reader):
        raise NotAnnotatedError(AnnotationCause.CONTRADICTS_LABEL, answer)
    return answer


def _with_image(text: str, record: Record, parts: AnnotationParts) -> list[dict[str, Any]]:
    """Returns the parts of a message to an annotator."""
    try:
        data = parts.store.fetch(image_ref(record.image, parts.images))
        image = open_image(data, limits=parts.limits)
    except (ImageError, StorageUnavailableError) as error:
        raise NotAnnotatedError(cause_of(error), str(error)) from None
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": data_url(image)}}]
