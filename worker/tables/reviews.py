"""The tables of reviews: what people say that contents are."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Index, String, text
from sqlmodel import Field, SQLModel

from worker.tables.columns import long_text, one_of, timestamp
from worker.tables.findings import Verdict


class Statement(StrEnum):
    """What a person says that a content is."""

    FAKE = "fake"
    REAL = "real"
    CANNOT_TELL = "cannot_tell"


class ReviewKind(StrEnum):
    """Whether a review is the first of a content, a later one, or the decision of an appeal, which outranks both."""

    FIRST = "first"
    SECOND = "second"
    APPEAL = "appeal"


class DeskRole(StrEnum):
    """What somebody may do at the review desk. Each role may also do what the roles before it may do."""

    REVIEWER = "reviewer"
    LEAD = "lead"
    ADMIN = "admin"


class Reviewer(SQLModel, table=True):
    """A person who may review, known by a pseudonym. If not `active`, they cannot review, but their reviews count."""

    __tablename__ = "reviewers"
    __table_args__ = (one_of("role", DeskRole),)

    name: str = long_text(primary_key=True)
    active: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    created_at: datetime = timestamp()
    role: str = Field(default=DeskRole.REVIEWER, sa_type=String(8), sa_column_kwargs={"server_default": "reviewer"})


class Review(SQLModel, table=True):
    """A person's statement about a content, and what the desk showed of the detector. Append-only.

    `scan_id` and `uri` say where the reviewer saw the content. `verdict_id` is the verdict that was shown there, and
    `detector_id` is its detector; `verdict` and `score` are those under the scan's policy. Triggers fill these, and
    refuse values that do not belong together. Compare `statement` with `verdict` to see whether the two agree.

    `decision` belongs to the previous release: triggers fill it, and nothing reads it. Only reviews from before
    migration 0006 may have no `statement`, `sha256` or `verdict`. Then `decision` is all that the reviewer said.

    `claim_id` is the claim under which the review was made at the desk. Near duplicates that were decided together
    share it, and a repeated request finds by it what it has done. `second_of` is the first reviewer, if this review was
    a second look; a trigger fills it. A review that is withdrawn stays: see Withdrawal.
    """

    __tablename__ = "reviews"
    __table_args__ = (
        CheckConstraint("decision IN ('confirmed', 'overturned', 'cannot_tell')", name="decision"),
        one_of("statement", Statement),
        one_of("kind", ReviewKind),
        one_of("verdict", Verdict),
        Index(
            "ix_reviews_by_reviewer",
            *("sha256", "reviewer", text("created_at DESC"), text("id DESC")),
            postgresql_include=["kind", "statement"],
        ),
        Index(
            "ix_reviews_appeals",
            *("sha256", text("created_at DESC"), text("id DESC")),
            postgresql_where=text("kind = 'appeal'"),
            postgresql_include=["statement"],
        ),
        Index(None, "uri"),
        Index("ix_reviews_reviewer", "reviewer", text("id DESC")),
        Index("uq_reviews_claim", "claim_id", "sha256", unique=True, postgresql_where=text("claim_id IS NOT NULL")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    scan_id: UUID = Field(foreign_key="scans.id")
    uri: str = long_text()
    sha256: str | None = Field(default=None, sa_type=String(64))
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    decision: str | None = Field(default=None, sa_type=String(16), nullable=False)
    reason_code: str | None = long_text(default=None)
    note: str | None = long_text(default=None)
    reviewer: str = long_text(foreign_key="reviewers.name")
    created_at: datetime = timestamp()
    kind: str | None = Field(default=None, sa_type=String(8), nullable=False)
    statement: str | None = Field(default=None, sa_type=String(16))
    detector_id: int | None = Field(default=None, sa_type=BigInteger)
    verdict: str | None = Field(default=None, sa_type=String(16))
    score: float | None = None
    claim_id: UUID | None = None
    second_of: str | None = long_text(default=None)


class Withdrawal(SQLModel, table=True):
    """A review that its author took back. It counts nowhere. Append-only; triggers check it and count again.

    There is no foreign key to `reviews`: with one, Postgres would propose TRUNCATE … CASCADE to users who are not
    allowed to truncate `reviews`.
    """

    __tablename__ = "withdrawals"

    review_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    reviewer: str = long_text(foreign_key="reviewers.name")
    withdrawn_at: datetime = timestamp()


class ReviewedVerdict(SQLModel, table=True):
    """What a detector said of a content when people first reviewed it, and their decision. Triggers update it.

    `verdict` is what was shown to the first reviewer who saw a verdict of this detector. `week` is the Monday of that
    week, in UTC. `statement` is null while the reviews of the content contradict each other.
    """

    __tablename__ = "reviewed_verdicts"

    sha256: str = Field(sa_type=String(64), primary_key=True)
    detector_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    verdict: str = Field(sa_type=String(16))
    first_reviewed_at: datetime = Field(sa_type=DateTime(timezone=True))
    week: date
    statement: str | None = Field(default=None, sa_type=String(16))


class ContentReviews(SQLModel, table=True):
    """The state of a content that was reviewed: see the view `review_status`. Triggers on `reviews` update it."""

    __tablename__ = "content_reviews"
    __table_args__ = (Index(None, "reviewed_at", postgresql_include=["statement"]),)

    sha256: str = Field(sa_type=String(64), primary_key=True)
    statement: str | None = Field(default=None, sa_type=String(16))
    disputed: bool
    says_fake: int = Field(sa_type=BigInteger)
    says_real: int = Field(sa_type=BigInteger)
    says_cannot_tell: int = Field(sa_type=BigInteger)
    reviews: int = Field(sa_type=BigInteger)
    appeals: int = Field(sa_type=BigInteger)
    first_reviewed_at: datetime = Field(sa_type=DateTime(timezone=True))
    reviewed_at: datetime = Field(sa_type=DateTime(timezone=True))
    last_reviewer: str = long_text()
