"""Reads what people decided about each content: its reviews, and the one label that follows from them.

A review states what a content is. Only the view `review_status` says which statement stands, by the rule of
docs/decisions/0016.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlmodel import Session

from worker.detector.verdicts import Answer
from worker.tables import Statement

FAKE, REAL = 0, 1
"""FakeClue's labels."""
_LABELS: dict[str | None, int] = {Statement.FAKE: FAKE, Statement.REAL: REAL}

_REVIEWS = text("""
SELECT coalesce(r.sha256, r.uri) COLLATE "C" AS content, r.scan_id, r.uri, r.statement, r.verdict, r.created_at,
       s.statement AS stands, coalesce(s.disputed, false) AS disputed,
       v.answer, v.explanation, v.contradicts, v.cut_off, v.width, v.height, v.detector_id,
       coalesce(o.sha256 = r.sha256, false) AS still_there
FROM reviews r
LEFT JOIN review_status s ON s.sha256 = r.sha256
LEFT JOIN verdicts v ON v.id = r.verdict_id AND v.sha256 = r.sha256
LEFT JOIN objects o ON o.uri = r.uri
WHERE NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id)
ORDER BY content, r.created_at DESC, r.id DESC
""")
"""Newest first within a content, without withdrawn reviews. A content that could never be fetched goes by its uri:
earlier releases allowed reviews of such contents."""


class Cause(StrEnum):
    """Why a decision or a line of your own labels makes no record. Causes of images are those of worker.errors."""

    CANNOT_TELL = "cannot_tell"
    CONFLICT = "conflict"  # as many reviewers say fake as real, and there is no appeal
    UNCERTAIN_VERDICT = "uncertain_verdict"  # reviews of an earlier release: neither word was said
    NO_VERDICT = "no_verdict"  # reviews of an earlier release: the image had failed
    REPLACED = "replaced"  # as far as is known, another content is now at its uri
    BAD_LINE = "bad_line"
    UNKNOWN_IMAGE = "unknown_image"
    DUPLICATE = "duplicate"
    CONTRADICTING_LABELS = "contradicting_labels"
    OVERRULED_LABEL = "overruled_label"  # a review says the opposite


@dataclass(frozen=True)
class LeftOut:
    """A line of the labels, or an image, that does not become a record."""

    cause: str
    detail: str
    line: int | None = None
    uri: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        where = f"line {self.line}" if self.line else self.uri or self.sha256
        return f"{where}: {self.cause}: {self.detail}"


Report = Callable[[LeftOut], None]
"""Called with each fault; may raise to stop."""


@dataclass(frozen=True)
class Decided:
    """A content and what people say about it: `label` is 0 (fake), 1 (real), or None with the `cause`.

    `sha256` is a uri if the content was never fetched. `uri` is where the content still is, if anywhere. `explanation`
    fits the label. `detector_id` is the detector whose verdict people saw. `asked_for`: the selection or a line of
    labels asks for it.
    """

    sha256: str
    label: int | None
    decided_by: str
    cause: Cause | None = None
    uri: str | None = None
    scan_id: UUID | None = None
    width: int | None = None
    height: int | None = None
    explanation: str | None = None
    category: str | None = None
    detector_id: int | None = None
    asked_for: bool = True


@dataclass(frozen=True)
class Selection:
    """Contents with a review in one of these scans (in all scans, if empty) that was given at `since` or later."""

    scans: frozenset[UUID] = frozenset()
    since: datetime | None = None

    def takes(self, review: Row[Any]) -> bool:
        """Whether this review selects its content. Then all reviews of that content count."""
        in_scans = not self.scans or review.scan_id in self.scans
        return in_scans and (self.since is None or review.created_at >= self.since)


def reviewed(session: Session, selection: Selection) -> Iterator[Decided]:
    """Yields every reviewed content, sorted by SHA-256. They are streamed: memory holds the reviews of one content."""
    rows = session.execute(_REVIEWS, execution_options={"yield_per": 1000})
    for content, reviews in groupby(rows, key=lambda row: str(row.content)):
        yield _decide(content, list(reviews), selection)


def _decide(content: str, reviews: Sequence[Row[Any]], selection: Selection) -> Decided:
    asked_for = any(selection.takes(review) for review in reviews)
    newest = reviews[0]
    label = _LABELS.get(newest.stands)
    if label is None:
        return Decided(content, None, "review", _no_label(newest), asked_for=asked_for)
    agreeing = [review for review in reviews if review.statement == newest.stands]
    return Decided(
        content,
        label,
        "review",
        uri=still_at(reviews),
        scan_id=agreeing[0].scan_id,
        width=agreeing[0].width,
        height=agreeing[0].height,
        explanation=explanation_for(label, agreeing),
        detector_id=agreeing[0].detector_id,
        asked_for=asked_for,
    )


def _no_label(newest: Row[Any]) -> Cause:
    if newest.disputed:
        return Cause.CONFLICT
    if Statement.CANNOT_TELL in {newest.stands, newest.statement}:
        return Cause.CANNOT_TELL
    return Cause.UNCERTAIN_VERDICT if newest.verdict else Cause.NO_VERDICT


def still_at(rows: Iterable[Row[Any]]) -> str | None:
    """Returns the first of these uris at which the content was when it was last fetched."""
    return next((row.uri for row in rows if row.still_there), None)


def explanation_for(label: int, verdicts: Iterable[Row[Any]]) -> str | None:
    """Returns the first explanation of these verdicts that fits the label.

    Left out are explanations of the opposite, explanations that contradict themselves, and those that were cut off,
    because they would teach wrong things.
    """
    word = Answer.FAKE if label == FAKE else Answer.REAL
    fitting = (row for row in verdicts if row.answer == word and not row.contradicts and not row.cut_off)
    return next((row.explanation for row in fitting if row.explanation), None)
