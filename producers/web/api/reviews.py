"""Reviews: what people state that contents are."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import select, text
from sqlmodel import Session, col

from producers.reviews import Stated, review
from producers.web.api.caller import ACaller, needs
from producers.web.api.guards import GuardedRoute
from producers.web.api.models import EXAMPLE_ID, ApiUri, Asked, RowId, Sha256
from producers.web.api.paging import LINKED, PAGE, Limit, Page, link, next_page
from producers.web.api.problems import ProblemError, answers
from producers.web.parts import Parts, parts_of
from producers.web.second_looks import NOT_WITHHELD
from worker.database import Database, transaction
from worker.messages import Text
from worker.tables import DeskRole, Review, Reviewer, ReviewKind, Scope, Statement, Verdict

router = APIRouter(route_class=GuardedRoute, tags=["reviews"])

Ours = Annotated[Parts, Depends(parts_of)]


class StateReview(Asked):
    """What a person states of a content, and where they saw it."""

    scan_id: UUID = Field(description="The scan or the submission.", examples=[EXAMPLE_ID])
    uri: ApiUri
    statement: Statement
    sha256: Sha256 | None = Field(None, description="The content; else what the scan found at the uri.")
    verdict_id: RowId | None = Field(None, description="The verdict that was shown; else that of the finding.")
    kind: ReviewKind | None = Field(
        None, description="Else first, or second when somebody else has reviewed it. An appeal needs a lead."
    )
    reason_code: Annotated[Text, Field(min_length=1, max_length=100)] | None = None
    note: Annotated[Text, Field(max_length=10_000)] | None = None


class ReviewShown(BaseModel):
    """A review. It is never changed: whoever changes their mind makes another one."""

    id: int
    scan_id: UUID
    uri: str
    sha256: str | None
    verdict_id: int | None
    statement: Statement | None = Field(description="Null for some reviews of an old release.")
    kind: ReviewKind
    reason_code: str | None
    note: str | None
    reviewer: str = Field(description="A pseudonym.", examples=["heron"])
    verdict: Verdict | None = Field(description="What its author was shown of the detector.")
    score: float | None
    created_at: datetime

    @classmethod
    def of(cls, row: Review) -> "ReviewShown":
        """The row as the API shows it."""
        return cls.model_validate(row.model_dump(include=set(cls.model_fields)))


class ReviewPage(Page[ReviewShown]):
    """Reviews, the oldest first."""


@router.get("/reviews", dependencies=[needs(Scope.READ)], responses={200: LINKED, **answers()})
def list_reviews(
    request: Request,
    response: Response,
    caller: ACaller,
    parts: Ours,
    after: Annotated[int, Query(ge=0, lt=2**63, description="Only reviews with a higher id.", examples=[0])] = 0,
    limit: Limit = PAGE,
) -> ReviewPage:
    """All reviews, the oldest first. A program that asks again after the last id gets what is new.

    A token with a reviewer does not get reviews of contents of which this reviewer is to give a second look.
    """
    query = select(Review).where(col(Review.id) > after).order_by(col(Review.id)).limit(limit + 1)
    if caller.reviewer is not None:
        query = query.where(text(NOT_WITHHELD).bindparams(me=caller.reviewer))
    with transaction(parts.database) as session:
        rows = list(session.execute(query).scalars())
    address = next_page(request, after=rows[limit - 1].id) if len(rows) > limit else None
    link(response, address)
    return ReviewPage(items=[ReviewShown.of(row) for row in rows[:limit]], next=address)


def reviews_of(session: Session, sha256: str, most: int) -> list[ReviewShown]:
    """The newest reviews of a content."""
    query = select(Review).where(col(Review.sha256) == sha256).order_by(col(Review.id).desc()).limit(most)
    return [ReviewShown.of(row) for row in session.execute(query).scalars()]


@router.post(
    "/reviews",
    status_code=201,
    dependencies=[needs(Scope.REVIEW)],
    responses={201: {"description": "It is stored."}, **answers(404, 415)},
)
def state_review(body: StateReview, caller: ACaller, parts: Ours) -> ReviewShown:
    """State what a content is. The author is the reviewer of the token."""
    if caller.reviewer is None:
        raise ProblemError(403, "this token has no reviewer")
    if body.kind is ReviewKind.APPEAL and not _is_lead(parts.database, caller.reviewer):
        raise ProblemError(403, "only a lead may decide an appeal")
    return ReviewShown.of(review(parts.database, Stated(**body.model_dump(), reviewer=caller.reviewer)))


def _is_lead(database: Database, name: str) -> bool:
    with transaction(database) as session:
        role = session.execute(select(col(Reviewer.role)).where(col(Reviewer.name) == name)).scalar()
    return role in {DeskRole.LEAD, DeskRole.ADMIN}
