"""The tables of scans, and of the messages and images that a scan still waits for."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, String, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from worker.messages import Record
from worker.tables.columns import long_text, one_of, timestamp


class ScanStatus(StrEnum):
    """`listing` while the producer still publishes, `running` until every listed image has an outcome, then `done`.

    `repairing` while the source is listed again for images without an outcome. `paused` until somebody resumes the
    scan: until then, nothing is published or judged. `cancelled` is final.
    """

    LISTING = "listing"
    RUNNING = "running"
    DONE = "done"
    REPAIRING = "repairing"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class Scan(SQLModel, table=True):
    """One sweep over a source, or one submission to the live queue (`kind`).

    `listed` counts distinct images. The scan is done when `judged + reused + unchanged + failed` reaches it. `fake`,
    `uncertain` and `real` split `judged + reused`. `policy` is messages.Policy. `record` is a Record: whether unchanged
    images leave findings, or are only counted as `unchanged`. `unchanged_missing_opinions` counts the second
    opinions that are missing for unchanged images.

    `listing` is producers.scans.Listing: what is listed, and by which rules. `cursor` is how far the listing has come.
    `skipped` counts skipped images, `skipped_by` counts them by cause. `rejudge`: verdicts from before the scan are not
    reused. If the share of flagged or failed images exceeds `max_flagged_share` or `max_failed_share`, the scan is
    paused: `note` says why, and `paused_from` is the status to return to. `rate` is how many images per second workers
    decided, averaged over the minute before `counted_at`. `detector_ids` are the detectors whose verdicts it holds.
    `schedule` and `due_at` say which nightly scan it is, and for which time. `dropped_at` is when retention dropped its
    findings.
    """

    __tablename__ = "scans"
    __table_args__ = (
        CheckConstraint("kind IN ('scan', 'live')", name="kind"),
        one_of("status", ScanStatus),
        one_of("record", Record),
        Index(None, "created_at"),
        Index(None, "partition"),
        Index(
            "ix_scans_active",
            "kind",
            "created_at",
            postgresql_where=text("status IN ('listing', 'repairing', 'running')"),
        ),
        Index(None, "schedule", "due_at", postgresql_where=text("schedule IS NOT NULL")),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    kind: str = Field(default="scan", sa_type=String(8))
    name: str = long_text()
    source: str = long_text()
    token: str | None = long_text(default=None, unique=True)
    policy: dict[str, Any] = Field(sa_type=JSONB)
    cursor: str | None = long_text(default=None)
    partition: str = Field(sa_type=String(63))
    status: str = Field(default=ScanStatus.LISTING, sa_type=String(16))
    listed: int = Field(default=0, sa_type=BigInteger)
    skipped: int = Field(default=0, sa_type=BigInteger)
    judged: int = Field(default=0, sa_type=BigInteger)
    reused: int = Field(default=0, sa_type=BigInteger)
    unchanged: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")})
    failed: int = Field(default=0, sa_type=BigInteger)
    fake: int = Field(default=0, sa_type=BigInteger)
    uncertain: int = Field(default=0, sa_type=BigInteger)
    real: int = Field(default=0, sa_type=BigInteger)
    created_at: datetime = timestamp()
    finished_at: datetime | None = timestamp(nullable=True)
    listing: dict[str, Any] | None = Field(default=None, sa_type=JSONB)
    skipped_by: dict[str, int] | None = Field(default=None, sa_type=JSONB)
    record: str = Field(default="all", sa_type=String(8), sa_column_kwargs={"server_default": "all"})
    rejudge: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    max_flagged_share: float | None = None
    max_failed_share: float | None = None
    paused_from: str | None = Field(default=None, sa_type=String(16))
    note: str | None = long_text(default=None)
    rate: float = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    counted_at: datetime | None = timestamp(nullable=True)
    detector_ids: list[int] = Field(
        default_factory=list,
        sa_column=Column(ARRAY(BigInteger), nullable=False, server_default=text("'{}'::bigint[]")),
    )
    schedule: str | None = long_text(default=None)
    due_at: datetime | None = timestamp(nullable=True)
    dropped_at: datetime | None = timestamp(nullable=True)
    unchanged_missing_opinions: int = Field(
        default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": text("0")}
    )


class Unpublished(SQLModel, table=True):
    """Messages of a scan that were listed, but perhaps not published, as JudgeImages objects.

    These are a producer's newest chunk until it commits the next one, a submission until the broker has all of it, and
    messages that workers set aside while a scan was paused.
    """

    __tablename__ = "unpublished"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    scan_id: UUID = Field(index=True)
    messages: list[dict[str, Any]] = Field(sa_type=JSONB)


class MessageTry(SQLModel, table=True):
    """How often a redelivered message was started but not finished. Each time, a worker died while it had the message.

    The row is deleted when the message ends.
    """

    __tablename__ = "message_tries"

    message_id: UUID = Field(primary_key=True)
    tries: int
    started_at: datetime = timestamp()


class Suspect(SQLModel, table=True):
    """An image of a message on which several workers died.

    The row is written before the image is judged alone, and deleted if the worker survives that.
    """

    __tablename__ = "suspects"

    scan_id: UUID = Field(primary_key=True)
    uri: str = long_text(primary_key=True)
    tries: int = 1


class Repaired(SQLModel, table=True):
    """An image that a repair published. The scan waits for its outcome."""

    __tablename__ = "repaired"

    scan_id: UUID = Field(primary_key=True)
    uri: str = long_text(primary_key=True)
