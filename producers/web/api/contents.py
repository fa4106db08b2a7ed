"""Contents: equal bytes, at any number of uris."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from sqlalchemy import func, select, union
from sqlmodel import Session, col

from producers.web.api.caller import ACaller, needs
from producers.web.api.guards import GuardedRoute
from producers.web.api.models import EXAMPLE_SHA256
from producers.web.api.problems import ProblemError, answers
from producers.web.api.reviews import ReviewShown, reviews_of
from producers.web.parts import AParts
from producers.web.second_looks import withheld
from worker.database import transaction
from worker.tables import (
    ContentHistory,
    ContentPlace,
    ContentReviews,
    Detector,
    Scope,
    Stage,
    Statement,
    StoredVerdict,
    Verdict,
)

router = APIRouter(route_class=GuardedRoute, tags=["contents"])

MOST = 100
"""How many reviews, verdicts and places are shown at most."""


class VerdictShown(BaseModel):
    """The newest answer of a detector about the content."""

    id: int
    detector: str = Field(description="Its name.")
    fingerprint: str = Field(description="Names everything that can change its scores.")
    answer: str = Field(description="fake, real or undecided.")
    verdict: Verdict | None = Field(
        description="What its newest finding says by the thresholds of that scan; null when that was always real."
    )
    score: float | None
    explanation: str | None
    gives_reasons: bool = Field(description="False for a classifier: it gives a score, and never an explanation.")
    contradicts: bool
    stage: Stage | None = Field(description="Which stage of a cascade said it; null for other detectors.")
    judged_at: datetime


class Standing(BaseModel):
    """What people have decided about the content."""

    statement: Statement | None = Field(description="What stands; null while nobody has decided, or it is disputed.")
    disputed: bool
    says_fake: int = Field(description="How many reviewers say so, by the newest review of each.")
    says_real: int
    says_cannot_tell: int
    waits_for_review: bool = Field(description="Whether it is in the review queue.")


class Content(BaseModel):
    """What is known about a content."""

    sha256: str = Field(examples=[EXAMPLE_SHA256])
    width: int = Field(description="In pixels, upright.")
    height: int
    verdicts: list[VerdictShown] = Field(description="One for each detector, the newest first.")
    standing: Standing
    second_look: bool = Field(
        description="Whether the reviewer of the token is to give a second look. Then reviews and standing are empty."
    )
    reviews: list[ReviewShown] = Field(description=f"The newest {MOST}.")
    places: list[str] = Field(
        description=f"Uris where a detector called it fake or uncertain, or judged it: the first {MOST}."
    )
    places_count: int = Field(description="How many there are.")


@router.get("/contents/{sha256}", dependencies=[needs(Scope.READ)], responses=answers(404))
def get_content(
    sha256: Annotated[
        str, Path(pattern="^[0-9a-f]{64}$", description="Of its bytes, in hexadecimal.", examples=[EXAMPLE_SHA256])
    ],
    caller: ACaller,
    parts: AParts,
) -> Content:
    """What detectors and people say about a content, and where it is.

    While the reviewer of the token is to give a second look, what others said is left out.
    """
    hidden = caller.reviewer is not None and bool(withheld(parts.database, caller.reviewer, [sha256]))
    with transaction(parts.database) as session:
        judged = _judged(session, sha256)
        if not judged:
            raise ProblemError(404, f"no detector has judged a content {sha256}")
        history = list(session.execute(select(ContentHistory).where(col(ContentHistory.sha256) == sha256)).scalars())
        places, count = _places(session, sha256)
        verdicts = {row.detector_id: row.verdict for row in history}
        return Content(
            sha256=sha256,
            width=judged[0][0].width,
            height=judged[0][0].height,
            verdicts=[_shown(row, detector, verdicts.get(row.detector_id)) for row, detector in judged],
            standing=_standing(None if hidden else session.get(ContentReviews, sha256), history),
            second_look=hidden,
            reviews=[] if hidden else reviews_of(session, sha256, MOST),
            places=places,
            places_count=count,
        )


def _judged(session: Session, sha256: str) -> list[tuple[StoredVerdict, Detector]]:
    newest = (
        select(func.max(col(StoredVerdict.id)))
        .where(col(StoredVerdict.sha256) == sha256)
        .group_by(col(StoredVerdict.detector_id))
    )
    query = (
        select(StoredVerdict, Detector)
        .join(Detector, col(Detector.id) == col(StoredVerdict.detector_id))
        .where(col(StoredVerdict.id).in_(newest))
        .order_by(col(StoredVerdict.id).desc())
        .limit(MOST)
    )
    return [(row, detector) for row, detector in session.execute(query)]


def _shown(row: StoredVerdict, detector: Detector, verdict: str | None) -> VerdictShown:
    return VerdictShown.model_validate(
        {
            "id": row.id,
            "detector": detector.name,
            "fingerprint": detector.fingerprint,
            "verdict": verdict,
            "judged_at": row.created_at,
            "gives_reasons": detector.gives_reasons,
            **{name: getattr(row, name) for name in ("answer", "score", "explanation", "contradicts", "stage")},
        }
    )


def _standing(found: ContentReviews | None, history: list[ContentHistory]) -> Standing:
    waits = any(row.verdict != Verdict.REAL and row.statement is None and not row.superseded for row in history)
    if found is None:
        return Standing(
            statement=None, disputed=False, says_fake=0, says_real=0, says_cannot_tell=0, waits_for_review=waits
        )
    return Standing.model_validate(found.model_dump() | {"waits_for_review": waits})


def _places(session: Session, sha256: str) -> tuple[list[str], int]:
    flagged = select(col(ContentPlace.uri)).where(col(ContentPlace.sha256) == sha256)
    judged = select(col(StoredVerdict.uri)).where(col(StoredVerdict.sha256) == sha256)
    every = union(flagged, judged).subquery()
    count = session.execute(select(func.count()).select_from(every)).scalar_one()
    places = session.execute(select(every.c.uri).order_by(every.c.uri).limit(MOST)).scalars()
    return list(places), count
