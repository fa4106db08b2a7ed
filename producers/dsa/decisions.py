"""Finds the decisions of people that a picture is fake: each one is a statement of reasons.

A decision is a review after which the content stands as fake, and before which it did not. So a second person who
agrees makes no new decision, and a lead who upholds a decision in an appeal makes none either.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Row, text
from sqlmodel import Session

from worker.tables import ReviewKind, Statement, Verdict

_REVIEWS = text("""
SELECT r.id, r.sha256, r.uri, r.kind, r.statement, r.reviewer, r.reason_code, r.created_at,
       r.verdict, least(found.first_at, judged.first_at, r.created_at) AS first_at
FROM reviews r
LEFT JOIN LATERAL (SELECT min(c.first_at) AS first_at FROM contents c WHERE c.sha256 = r.sha256) found ON true
LEFT JOIN LATERAL (SELECT min(v.created_at) AS first_at FROM verdicts v WHERE v.sha256 = r.sha256) judged ON true
WHERE r.sha256 IS NOT NULL AND r.statement IS NOT NULL
  AND NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id)
  AND r.sha256 IN (
    SELECT sha256 FROM reviews
    WHERE created_at >= :since AND created_at < :until
  )
ORDER BY r.sha256, r.created_at, r.id
""")
"""All reviews of contents that somebody reviewed in the period, each content in the order of time."""


@dataclass(frozen=True)
class Decision:
    """A decision that a content is fake. `review` is the review that made it.

    `detected` is False if the person saw that the detector called the content real. `first_at` is when Fakesweep found
    the content first, and never later than `decided_at`, the time of the review.
    """

    review: int
    sha256: str
    uri: str
    reason_code: str | None
    detected: bool
    first_at: datetime
    decided_at: datetime

    @property
    def puid(self) -> str:
        """The id of its statement of reasons. It tells nothing about the picture, and it is never used again."""
        return puid_of(self.review, self.decided_at)


@dataclass(frozen=True)
class Step:
    """A review that counts, and what stood before it and after it. None: nothing stood, or people disagreed."""

    review: Row[Any]
    before: str | None
    after: str | None

    @property
    def says_fake_now(self) -> bool:
        """Whether this review made the content fake."""
        return self.after == Statement.FAKE != self.before


def puid_of(review: int, decided_at: datetime) -> str:
    """The puid of the statement of reasons of this review.

    The time is in it because a database that was restored from a backup gives the same review ids again.
    """
    return f"fakesweep-{review}-{decided_at.astimezone(UTC):%Y%m%d%H%M%S%f}"


def decisions(session: Session, since: datetime, until: datetime) -> Iterator[Decision]:
    """Yields the decisions of the time from `since` until just before `until`, sorted by content.

    They are streamed: memory holds the reviews of one content.
    """
    rows = session.execute(_REVIEWS, {"since": since, "until": until}, execution_options={"yield_per": 1000})
    for _, reviews in groupby(rows, key=lambda row: str(row.sha256)):
        for step in steps(reviews):
            if step.says_fake_now and since <= step.review.created_at < until:
                yield _decision(step.review)


def _decision(row: Row[Any]) -> Decision:
    return Decision(
        review=row.id,
        sha256=row.sha256,
        uri=row.uri,
        reason_code=row.reason_code,
        detected=row.verdict != Verdict.REAL,
        first_at=row.first_at,
        decided_at=row.created_at,
    )


def steps(reviews: Iterable[Row[Any]]) -> Iterator[Step]:
    """Yields a step for each review of one content. The reviews are in the order of time, without withdrawn ones.

    What stands after a review follows docs/decisions/0016: the last appeal or, without one, what most reviewers say.
    """
    newest: dict[str, str] = {}
    appeal: str | None = None
    before: str | None = None
    for row in reviews:
        newest[row.reviewer] = row.statement
        appeal = row.statement if row.kind == ReviewKind.APPEAL else appeal
        after = appeal or _majority(list(newest.values()))
        yield Step(row, before, after)
        before = after


def _majority(statements: list[str]) -> str | None:
    fake, real = statements.count(Statement.FAKE), statements.count(Statement.REAL)
    if fake == real:
        return None if fake else Statement.CANNOT_TELL
    return Statement.FAKE if fake > real else Statement.REAL


def pseudonyms(session: Session) -> list[str]:
    """Returns the pseudonyms of all who have reviewed."""
    return [str(name) for name in session.execute(text("SELECT DISTINCT reviewer FROM reviews ORDER BY 1")).scalars()]
