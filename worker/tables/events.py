"""The tables of who did what: events, what made a verdict, and the failures that were judged again.

All are append-only. Only `fakesweep forget` changes a row: it removes the uri and the error text of a replaced failure.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, String, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from worker.tables.columns import long_text, timestamp

_ACTOR = text("coalesce(nullif(left(current_setting('fakesweep.actor', true), 200), ''), SESSION_USER)")


class EventKind(StrEnum):
    """What happened. Triggers write the events of most kinds; programs record those of RECORDED."""

    SCAN_STARTED = "scan_started"
    SCAN_PAUSED = "scan_paused"
    LIMITS_CHANGED = "limits_changed"
    SCAN_RESUMED = "scan_resumed"
    SCAN_CANCELLED = "scan_cancelled"
    SCAN_REPAIRED = "scan_repaired"
    SCAN_DONE = "scan_done"
    SCAN_DROPPED = "scan_dropped"
    RETRIED = "retried"
    ROLES_GRANTED = "roles_granted"
    TOKEN_ADDED = "token_added"  # noqa: S105 - not a password
    TOKEN_WITHDRAWN = "token_withdrawn"  # noqa: S105 - not a password
    REVIEWER_ADDED = "reviewer_added"
    REVIEWER_CHANGED = "reviewer_changed"
    LOGIN_ADDED = "login_added"
    LOGIN_REMOVED = "login_removed"
    WEBHOOK_ADDED = "webhook_added"
    WEBHOOK_ENABLED = "webhook_enabled"
    WEBHOOK_DISABLED = "webhook_disabled"
    WEBHOOK_REMOVED = "webhook_removed"
    RETENTION = "retention"
    DETECTOR_ADDED = "detector_added"
    DETECTOR_CHANGED = "detector_changed"
    STACK_ADDED = "stack_added"
    STACK_WITHDRAWN = "stack_withdrawn"
    FORGOTTEN = "forgotten"
    AUDIT_BUILT = "audit_built"


RECORDED = (
    EventKind.RETRIED,
    EventKind.ROLES_GRANTED,
    EventKind.RETENTION,
    EventKind.FORGOTTEN,
    EventKind.AUDIT_BUILT,
)
"""The kinds that programs record, because no trigger sees them. The function record_event refuses all others.
Only the owner of the tables may record ROLES_GRANTED and FORGOTTEN."""


class Event(SQLModel, table=True):
    """Something that somebody did. `kind` is an EventKind; a newer release may write others.

    `actor` is who did it, as the program says: `cli:USER@HOST`, `reviewer:NAME`, `token:NAME`, `nightly:NAME` or
    `worker:HOST`. If no program says it, it is the login. `login` is the login at Postgres, which has checked it.
    `subject` is what it was done to: the name of a scan, a token, a reviewer, a detector or a stack. A scan whose name
    is its source has none.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index(None, "at"),
        Index("ix_events_scan_id", "scan_id", "id", postgresql_where=text("scan_id IS NOT NULL")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    at: datetime = timestamp()
    kind: str = Field(sa_type=String(32))
    actor: str = Field(default=None, sa_column=Column(Text, nullable=False, server_default=_ACTOR))
    login: str = Field(default=None, sa_column=Column(Text, nullable=False, server_default=text("SESSION_USER")))
    scan_id: UUID | None = None
    subject: str | None = long_text(default=None)
    details: dict[str, Any] | None = Field(default=None, sa_type=JSONB)


class Maker(SQLModel, table=True):
    """The software and the card that made verdicts. `verdicts.maker_id` names it. Workers of a kind share a row.

    `release` is the version of Fakesweep. `engine` is `vllm`, `transformers` or the name of another engine. The others
    are versions, and the name of the first card; each is None where there is none.
    `fingerprint` is the SHA-256 of all of them.
    """

    __tablename__ = "makers"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    fingerprint: str = Field(sa_type=String(64), unique=True)
    release: str = long_text()
    engine: str = long_text()
    vllm: str | None = long_text(default=None)
    torch: str | None = long_text(default=None)
    transformers: str | None = long_text(default=None)
    driver: str | None = long_text(default=None)
    card: str | None = long_text(default=None)
    created_at: datetime = timestamp()


class ReplacedFailure(SQLModel, table=True):
    """A failed finding that a new outcome replaced, after `retry`. A trigger on `findings` writes it."""

    __tablename__ = "replaced_failures"
    __table_args__ = (Index(None, "uri"), Index(None, "scan_id"))

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    scan_id: UUID
    uri: str = long_text()
    sha256: str | None = Field(default=None, sa_type=String(64))
    reason: str = Field(sa_type=String(32))
    detail: str | None = long_text(default=None)
    attempts: int
    decided_at: datetime = Field(sa_type=DateTime(timezone=True))
    replaced_at: datetime = timestamp()
    actor: str = Field(default=None, sa_column=Column(Text, nullable=False, server_default=_ACTOR))
