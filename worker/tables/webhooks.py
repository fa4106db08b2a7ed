"""The tables of webhooks: who wants to be told of what, and what is still to be sent."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Column, ForeignKey, Identity, Index, String, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from worker.tables.columns import long_text, one_of, timestamp


class WebhookKind(StrEnum):
    """What an endpoint may be told of. docs/webhooks.md says when each is written, and what it holds."""

    FINDING_FLAGGED = "finding.flagged"
    REVIEW_DECIDED = "review.decided"
    SCAN_DONE = "scan.done"
    SCAN_PAUSED = "scan.paused"
    DRIFT_ALARM = "drift.alarm"


class MessageState(StrEnum):
    """`waiting` for its next attempt, `delivered`, or `dead`: all attempts failed, and nobody tries again."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


class WebhookEndpoint(SQLModel, table=True):
    """An address that is told of these `kinds`. `secret` signs its messages, and begins with `whsec_`.

    Only the owner and the role `webhooks` may read this table. `disabled_at`: the receiver answered 410 Gone.
    """

    __tablename__ = "webhook_endpoints"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    name: str = long_text(unique=True)
    url: str = long_text()
    kinds: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    secret: str = long_text()
    created_at: datetime = timestamp()
    disabled_at: datetime | None = timestamp(nullable=True)


_WAITING = text("state = 'waiting'")


class OutboxMessage(SQLModel, table=True):
    """A message to one endpoint. Triggers write it in the transaction that causes it, and senders update it.

    Messages of one endpoint with the same `subject` are sent one after the other, in the order of `id`. Those of two
    transactions that run at the same time have no order: `created_at` tells when each began. `message_id`
    stays the same over all attempts. A sender that takes a message moves `due_at` into the future: if the sender dies,
    the message is sent again after that time. `answer` is what came of the last attempt.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        one_of("state", MessageState),
        CheckConstraint("(state = 'waiting') = (ended_at IS NULL)", name="ended"),
        Index("uq_outbox_message", "endpoint_id", "message_id", unique=True),
        Index("ix_outbox_due", "endpoint_id", "due_at", "id", postgresql_where=_WAITING),
        Index("ix_outbox_subject", "endpoint_id", "subject", "id", postgresql_where=_WAITING),
        Index("ix_outbox_dead", "endpoint_id", "id", postgresql_where=text("state = 'dead'")),
        Index("ix_outbox_ended", "ended_at", postgresql_where=text("state <> 'waiting'")),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    endpoint_id: int = Field(
        sa_column=Column(BigInteger, ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False)
    )
    message_id: UUID = Field(sa_column_kwargs={"server_default": text("gen_random_uuid()")})
    kind: str = Field(sa_type=String(32))
    subject: str = long_text()
    data: dict[str, Any] = Field(sa_type=JSONB)
    created_at: datetime = timestamp()
    state: str = Field(
        default=MessageState.WAITING, sa_type=String(16), sa_column_kwargs={"server_default": text("'waiting'")}
    )
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    due_at: datetime = timestamp()
    ended_at: datetime | None = timestamp(nullable=True)
    answer: str | None = long_text(default=None)
