"""Reviews: what people state about contents."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import select, text, tuple_
from sqlmodel import Session, col

from producers.reviews import Stated, review
from producers.web.access.people import Person
from producers.web.api.caller import ACaller, needs
from producers.web.api.guards import GuardedRoute
from producers.web.api.models import EXAMPLE_ID, ApiUri, Asked, Moment, RowId, Sha256
from producers.web.api.paging import LINKED, PAGE, Limit, Page, link, next_page
from producers.web.api.problems import ProblemError, answers
from producers.web.api.settling import settled_reviews
from producers.web.parts import AParts
from producers.web.second_looks import NOT_WITHHELD
from worker.database import Database, transaction
from worker.messages import Text
from worker.tables import DeskRole, Review, Reviewer, ReviewKind, Scope, Statement, Verdict, Withdrawal

router = APIRouter(route_class=GuardedRoute, tags=["reviews"])


_EVER = datetime(1970, 1, 1, tzinfo=UTC)


class StateReview(Asked):
    """What a person states about a content, and where they saw it."""

    scan_id: UUID = Field(description="The scan or the submission.", examples=[EXAMPLE_ID])
    uri: ApiUri
    statement: Statement
    sha256: Sha256 | None = Field(None, description="The content; else what the scan found at the uri.")
    verdict_id: RowId | None = Field(None, description="The verdict that was shown; else that of the finding.")
    kind: ReviewKind | None = Field(
        None, description="Else first, or second when somebody else has reviewed it. An appeal needs a lead."
    )
    reason_code: Annotated[Text, Field(min_length=1, max_length=100)] | None = Field(
        None, description="Why: a code of the review desk, or any of your own. It is stored as it is."
    )
    note: Annotated[Text, Field(max_length=10_000)] | None = None


class ReviewShown(BaseModel):
    """A review. It is never changed: people who change their mind make another one."""

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
    withdrawn_at: datetime | None = Field(description="When its author took it back: then it counts nowhere.")

    @classmethod
    def of(cls, row: Review, withdrawn_at: datetime | None) -> "ReviewShown":
        """The row as the API shows it."""
        shown = row.model_dump(include=set(cls.model_fields))
        return cls.model_validate(shown | {"withdrawn_at": withdrawn_at})


class ReviewPage(Page[ReviewShown]):
    """Reviews, the oldest first."""


class WithdrawalShown(BaseModel):
    """A review that its author took back: it counts nowhere, and what stands of its content may have changed."""

    review_id: int
    reviewer: str = Field(description="A pseudonym.", examples=["heron"])
    withdrawn_at: datetime


class WithdrawalPage(Page[WithdrawalShown]):
    """Withdrawals, the oldest first."""


_WITH_WITHDRAWAL = select(Review, col(Withdrawal.withdrawn_at)).outerjoin(
    Withdrawal, col(Withdrawal.review_id) == col(Review.id)
)


@router.get("/reviews", dependencies=[needs(Scope.READ)], responses={200: LINKED, **answers()})
def list_reviews(
    request: Request,
    response: Response,
    caller: ACaller,
    parts: AParts,
    after: Annotated[int, Query(ge=0, lt=2**63, description="Only reviews with a higher id.", examples=[0])] = 0,
    limit: Limit = PAGE,
) -> ReviewPage:
    """All reviews, the oldest first. A program that asks again after the last id gets what is new, and misses none.

    A review that is withdrawn later does not come again: `GET /withdrawals` lists it. A token with a reviewer does
    not get reviews of contents to which this reviewer is to give a second look.
    """
    settled = settled_reviews(parts.database)
    query = _WITH_WITHDRAWAL.where(col(Review.id) > after, col(Review.id) <= settled).order_by(col(Review.id))
    if caller.reviewer is not None:
        query = query.where(text(NOT_WITHHELD).bindparams(me=caller.reviewer))
    with transaction(parts.database) as session:
        rows = list(session.execute(query.limit(limit + 1)))
    address = next_page(request, after=rows[limit - 1][0].id) if len(rows) > limit else None
    link(response, address)
    return ReviewPage(items=[ReviewShown.of(row, at) for row, at in rows[:limit]], next=address)


@router.get("/withdrawals", dependencies=[needs(Scope.READ)], responses={200: LINKED, **answers()})
def list_withdrawals(
    request: Request,
    response: Response,
    parts: AParts,
    since: Annotated[Moment, Query(description="Only what was withdrawn then or later.")] = _EVER,
    after: Annotated[
        int, Query(ge=0, lt=2**63, description="Of those at exactly `since`, only reviews with a higher id.")
    ] = 0,
    limit: Limit = PAGE,
) -> WithdrawalPage:
    """Reviews that their authors have taken back, the oldest first.

    A program that asks again gives as `since` ten minutes before the newest `withdrawn_at` that it has: this time is
    taken before the withdrawal can be seen. Some then come twice.
    """
    order = (col(Withdrawal.withdrawn_at), col(Withdrawal.review_id))
    query = select(Withdrawal).where(tuple_(*order) > tuple_(since, after)).order_by(*order).limit(limit + 1)
    with transaction(parts.database) as session:
        rows = list(session.execute(query).scalars())
    more = len(rows) > limit
    last = rows[limit - 1] if more else None
    address = next_page(request, since=last.withdrawn_at.isoformat(), after=last.review_id) if last else None
    link(response, address)
    return WithdrawalPage(
        items=[WithdrawalShown.model_validate(row.model_dump()) for row in rows[:limit]], next=address
    )


def reviews_of(session: Session, sha256: str, most: int) -> list[ReviewShown]:
    """The newest reviews of a content."""
    query = _WITH_WITHDRAWAL.where(col(Review.sha256) == sha256).order_by(col(Review.id).desc()).limit(most)
    return [ReviewShown.of(row, at) for row, at in session.execute(query)]


@router.post(
    "/reviews",
    status_code=201,
    dependencies=[needs(Scope.REVIEW)],
    responses={201: {"description": "It is stored."}, **answers(404, 415)},
)
def state_review(body: StateReview, caller: ACaller, parts: AParts) -> ReviewShown:
    """State what a content is. The author is the reviewer of the token.

    The newest review by a reviewer of a content counts. So a request may be repeated: it makes another review, and does
    not change what people have decided.
    """
    if caller.reviewer is None:
        raise ProblemError(403, "this token has no reviewer")
    if body.kind is ReviewKind.APPEAL and not _is_lead(parts.database, caller.reviewer):
        raise ProblemError(403, "only a lead may decide an appeal")
    row = review(parts.database, Stated(**body.model_dump(), reviewer=caller.reviewer))
    return ReviewShown.of(row, withdrawn_at=None)


def _is_lead(database: Database, name: str) -> bool:
    with transaction(database) as session:
        role = session.execute(select(col(Reviewer.role)).where(col(Reviewer.name) == name)).scalar()
    return role is not None and Person(name, DeskRole(role)).may(DeskRole.LEAD)
