"""Combines reviews and your own labels into one label for each content."""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby

from sqlmodel import Session

from producers.export.decisions import Cause, Decided, LeftOut, Report, Selection, reviewed
from producers.export.labels import Label, labelled


def decided_contents(
    session: Session, selection: Selection, labels: Mapping[str, Label], report: Report
) -> Iterator[Decided]:
    """Yields the contents that the selection or the labels (by SHA-256) ask for, sorted by SHA-256."""
    # For the same content, the review comes first: merge() is stable.
    merged = heapq.merge(
        reviewed(session, selection), labelled(session, labels, report), key=lambda decided: decided.sha256
    )
    for sha256, found in groupby(merged, key=lambda decided: decided.sha256):
        first, *given = found
        settled = _settled(first, given[0], labels[sha256].line, report) if given else first
        if settled.asked_for:
            yield settled


def _settled(review: Decided, given: Decided, line: int, report: Report) -> Decided:
    """Prefers the label of the reviews to that of the file. If the reviews give none, the file's label counts."""
    if review.label is None:
        return given
    explanation = given.explanation or review.explanation
    if review.label != given.label:
        report(LeftOut(Cause.OVERRULED_LABEL, "reviews say the opposite and count", line, given.uri, given.sha256))
        explanation = review.explanation
    uri = review.uri or given.uri
    return replace(review, uri=uri, explanation=explanation, category=given.category, asked_for=True)
