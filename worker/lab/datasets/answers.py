"""Reads an answer in a dataset as the worker reads a detector's."""

from worker.detector.engine import Completion, Step
from worker.detector.verdicts import Answer, Judgement, Reader
from worker.lab.datasets.records import Record


def read(answer: str, reader: Reader) -> Judgement:
    """Returns the judgement in a text. Only the words count: a text has no tokens, so there is no score."""
    return reader.read(Completion((Step(0, answer, fake=0, real=0, is_verdict=True),), (), latency_ms=0))


def wanted(record: Record) -> Answer:
    """Returns the label as a detector's word."""
    return Answer.FAKE if record.is_fake else Answer.REAL
