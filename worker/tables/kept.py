"""The tables that triggers keep up to date: counts of findings, and the history of contents."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, SmallInteger, String, text
from sqlmodel import Field, SQLModel

from worker.tables.columns import long_text, timestamp


class HourlyCount(SQLModel, table=True):
    """How many findings of a kind there were in an hour. Triggers on `findings` update it; retention deletes nothing.

    For all submissions together, `scan_id` is all zeros. Where there is no value, `detector_id` is 0 and a text is
    empty. `score_bin` is the score in steps of 0.05, rounded down: 0 to 19, or -1 without one. Rows that differ only in
    `shard` belong together: each connection writes to its own shard, so that connections do not wait for each other.
    """

    __tablename__ = "findings_hourly"

    hour: datetime = Field(sa_type=DateTime(timezone=True), primary_key=True)
    scan_id: UUID = Field(primary_key=True)
    bucket: str = long_text(primary_key=True)
    detector_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    outcome: str = Field(sa_type=String(8), primary_key=True)
    verdict: str = Field(sa_type=String(16), primary_key=True)
    reason: str = Field(sa_type=String(32), primary_key=True)
    score_bin: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    shard: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    findings: int = Field(sa_type=BigInteger)


_WAITING = text("verdict <> 'real' AND statement IS NULL AND NOT superseded")
_MOST_SEVERE = (text("score DESC NULLS LAST"), "first_at")
_BUCKET = text("bucket_of(uri)")


class ContentHistory(SQLModel, table=True):
    """The history of a content that a detector called fake or uncertain. Triggers on `findings` update it.

    `verdict` and `score` are those of its newest finding. `verdict_id`, `uri` and `scan_id` are those of the newest
    finding that was not real. `superseded`: another detector has judged the content since. `places` counts uris.
    `statement` is what people last decided about the content. It is null while nobody has decided. `differs`: in the
    newest scan that asked for second opinions, one detector called it fake and another one real. `missed`: the row is
    of a further detector, whose newest opinion is fake, and the scan's own detector called the content real.
    """

    __tablename__ = "contents"
    __table_args__ = (
        Index("ix_contents_to_review", *_MOST_SEVERE, postgresql_where=_WAITING),
        # The columns after the order are for further filters: rows that do not match are skipped within the index.
        Index(
            "ix_contents_to_review_by_scan",
            *("scan_id", "verdict", *_MOST_SEVERE, _BUCKET, "detector_id"),
            postgresql_where=_WAITING,
        ),
        Index(
            "ix_contents_to_review_by_bucket",
            *(_BUCKET, "verdict", *_MOST_SEVERE, "detector_id"),
            postgresql_where=_WAITING,
        ),
        Index("ix_contents_to_review_by_detector", "detector_id", "verdict", *_MOST_SEVERE, postgresql_where=_WAITING),
        Index("ix_contents_to_review_by_verdict", "verdict", *_MOST_SEVERE, postgresql_where=_WAITING),
        Index(
            "ix_contents_disputed",
            *(*_MOST_SEVERE, "verdict", "scan_id", _BUCKET, "detector_id"),
            postgresql_where=text(f"{_WAITING.text} AND reviewed_at IS NOT NULL"),
        ),
        Index("ix_contents_waiting", "first_at", postgresql_where=_WAITING),
        Index("ix_contents_differ", *_MOST_SEVERE, postgresql_where=text(f"{_WAITING.text} AND differs")),
        Index("ix_contents_missed", "sha256", postgresql_where=text("missed")),
        Index(
            "ix_contents_places",
            text("places DESC"),
            text("first_flagged_at DESC"),
            postgresql_where=text("first_flagged_at IS NOT NULL"),
        ),
        Index(None, "first_flagged_at"),
        Index(None, "sha256", postgresql_using="hash"),
        {"postgresql_with": {"fillfactor": 50}},
    )

    sha256: str = Field(sa_type=String(64), primary_key=True)
    detector_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    verdict: str = Field(sa_type=String(16))
    score: float | None = None
    verdict_id: int = Field(sa_type=BigInteger)
    uri: str = long_text()
    scan_id: UUID
    first_at: datetime = Field(sa_type=DateTime(timezone=True))
    last_at: datetime = Field(sa_type=DateTime(timezone=True))
    places: int = Field(sa_type=BigInteger)
    first_flagged_at: datetime | None = timestamp(nullable=True)
    first_flagged_uri: str | None = long_text(default=None)
    first_flagged_scan_id: UUID | None = None
    last_flagged_at: datetime | None = timestamp(nullable=True)
    last_flagged_uri: str | None = long_text(default=None)
    last_flagged_scan_id: UUID | None = None
    superseded: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    statement: str | None = Field(default=None, sa_type=String(16))
    reviewed_at: datetime | None = timestamp(nullable=True)
    differs: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    missed: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})


class ContentPlace(SQLModel, table=True):
    """A uri at which a detector called a content fake or uncertain."""

    __tablename__ = "content_places"

    sha256: str = Field(sa_type=String(64), primary_key=True)
    detector_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    uri: str = long_text(primary_key=True)


class ContentExternalId(SQLModel, table=True):
    """An external id under which a content was found fake or uncertain. A trigger on `findings` updates it."""

    __tablename__ = "content_external_ids"
    __table_args__ = (Index(None, "sha256"),)

    external_id: str = long_text(primary_key=True)
    sha256: str = Field(sa_type=String(64), primary_key=True)


class FlaggedDaily(SQLModel, table=True):
    """How many contents a detector called fake for the first time on a day. Triggers on `findings` update it.

    `bucket` is where the content was at that time. `day` is the start of the day, in UTC. `shard`: see HourlyCount.
    """

    __tablename__ = "flagged_daily"

    day: datetime = Field(sa_type=DateTime(timezone=True), primary_key=True)
    detector_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    bucket: str = long_text(primary_key=True)
    shard: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    contents: int = Field(sa_type=BigInteger)


class DailyStages(SQLModel, table=True):
    """How many images a stage of a cascade judged on a day. A trigger on `findings` updates it.

    `flagged`: the score is at least the cascade's own `fake_from`, whatever the thresholds of the scan are. An image
    that the first stage would have cleared is not counted if the judge was asked for. For all submissions together,
    `scan_id` is all zeros. `shard` is as in HourlyCount.
    """

    __tablename__ = "stages_daily"

    day: datetime = Field(sa_type=DateTime(timezone=True), primary_key=True)
    scan_id: UUID = Field(primary_key=True, index=True)
    detector_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    stage: str = Field(sa_type=String(8), primary_key=True)
    flagged: bool = Field(primary_key=True)
    shard: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    images: int = Field(sa_type=BigInteger)
