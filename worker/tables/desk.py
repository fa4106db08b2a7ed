"""The tables of the review desk and the API: claims, skips, second looks, logins, tokens and repeated requests."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, ForeignKey, Identity, Index, String, Text
from sqlmodel import Field, SQLModel

from worker.tables.columns import long_text, timestamp


class Claim(SQLModel, table=True):
    """A reviewer works on a content, at most until `until`. The desk moves this time while the page is open.

    `id` is new for each claim, so that a page can check whether its own claim still holds.
    """

    __tablename__ = "claims"
    __table_args__ = (Index(None, "reviewer"),)

    sha256: str = Field(sa_type=String(64), primary_key=True)
    id: UUID
    reviewer: str = long_text(foreign_key="reviewers.name")
    since: datetime = timestamp()
    until: datetime = Field(sa_type=DateTime(timezone=True))


class Skip(SQLModel, table=True):
    """A content that a reviewer skipped. They do not get it again before `until`; other reviewers do."""

    __tablename__ = "skips"

    reviewer: str = long_text(primary_key=True, foreign_key="reviewers.name")
    sha256: str = Field(sa_type=String(64), primary_key=True)
    until: datetime = Field(sa_type=DateTime(timezone=True))


class Look(SQLModel, table=True):
    """A reviewer has the page of a content open, at least until `until`."""

    __tablename__ = "looks"
    __table_args__ = (Index(None, "sha256"), {"prefixes": ["UNLOGGED"]})

    reviewer: str = long_text(primary_key=True, foreign_key="reviewers.name")
    sha256: str = Field(sa_type=String(64), primary_key=True)
    until: datetime = Field(sa_type=DateTime(timezone=True))


class SecondLook(SQLModel, table=True):
    """A content that somebody other than `first_reviewer` must look at. The row is deleted when they have decided."""

    __tablename__ = "second_looks"
    __table_args__ = (Index(None, "wanted_at"),)

    sha256: str = Field(sa_type=String(64), primary_key=True)
    first_reviewer: str = long_text(foreign_key="reviewers.name")
    wanted_at: datetime = timestamp()


class Login(SQLModel, table=True):
    """The reviewer who signs in as `identity`. Only this table links a person with a pseudonym."""

    __tablename__ = "logins"
    __table_args__ = (Index(None, "reviewer"),)

    identity: str = long_text(primary_key=True)
    reviewer: str = long_text(foreign_key="reviewers.name")
    created_at: datetime = timestamp()


class Scope(StrEnum):
    """What a token of the API may do."""

    SUBMIT = "submit"
    READ = "read"
    REVIEW = "review"
    SCAN = "scan"


class ApiToken(SQLModel, table=True):
    """A token of the API, stored as the SHA-256 of its text. `reviewer` reviews with it, if its scope is `review`."""

    __tablename__ = "api_tokens"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    name: str = long_text(unique=True)
    token_sha256: str = Field(sa_type=String(64), unique=True)
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    reviewer: str | None = long_text(default=None, foreign_key="reviewers.name")
    created_at: datetime = timestamp()
    expires_at: datetime | None = timestamp(nullable=True)
    withdrawn_at: datetime | None = timestamp(nullable=True)


class IdempotencyKey(SQLModel, table=True):
    """A request of the API that may be repeated, and the scan that it created.

    `request_sha256` is the SHA-256 of the request's body: the same key with another body is refused. `published_at` is
    null until all messages of the scan are in the broker.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"),)

    token_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("api_tokens.id"), primary_key=True, autoincrement=False)
    )
    key: str = long_text(primary_key=True)
    request_sha256: str = Field(sa_type=String(64))
    scan_id: UUID
    created_at: datetime = timestamp()
    published_at: datetime | None = timestamp(nullable=True)
