"""The tables. migrations/ creates them; a test fails when the two drift apart.

    detectors 1--n verdicts n--1 (sha256) 1--n objects
    scans     1--n findings n--1 verdicts
    reviewers 1--n reviews n--1 (sha256)   what people state that a content is, append-only

Sized for 10^8 findings: `findings` is partitioned by list, one partition a scan (`scan_…`) and one a month for
submissions (`live_2026_11`), so that an old scan is dropped, not deleted row by row.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    SmallInteger,
    String,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from worker.messages import Record

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING


class Outcome(StrEnum):
    """What became of an image in a scan. Every listed image ends with exactly one."""

    JUDGED = "judged"
    REUSED = "reused"
    FAILED = "failed"


class Verdict(StrEnum):
    """What a score means under the scan's policy; an undecided answer is uncertain."""

    FAKE = "fake"
    UNCERTAIN = "uncertain"
    REAL = "real"


class ScanStatus(StrEnum):
    """`listing` while the producer still publishes, `running` until every listed image has an outcome, `done`.

    `repairing` while the source is listed again for images without an outcome. `paused` until somebody resumes it:
    nothing more is published or judged. `cancelled` for good.
    """

    LISTING = "listing"
    RUNNING = "running"
    DONE = "done"
    REPAIRING = "repairing"
    PAUSED = "paused"
    CANCELLED = "cancelled"


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _timestamp(*, nullable: bool = False) -> Any:
    default = None if nullable else func.now()
    return Field(
        default=None, sa_type=DateTime(timezone=True), nullable=nullable, sa_column_kwargs={"server_default": default}
    )


def _text(**options: Any) -> Any:
    return Field(sa_type=Text, **options)


class Detector(SQLModel, table=True):
    """A model, its revision, and everything else that can change a score. Verdicts name it by `id`.

    `description` is the whole of it, prompt and calibration too, as the worker had it that stored the row. `started_at`
    is when a worker last started with it: producers reuse the verdicts of the detector that started last.
    """

    __tablename__ = "detectors"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    fingerprint: str = Field(sa_type=String(64), unique=True)
    name: str = _text()
    model: str = _text()
    revision: str = _text()
    prompt_revision: str = _text()
    preprocessing_revision: str = _text()
    dtype: str = _text()
    quantization: str | None = _text(default=None)
    notice: str | None = _text(default=None)
    description: dict[str, Any] | None = Field(default=None, sa_type=JSONB)
    created_at: datetime = _timestamp()
    started_at: datetime | None = _timestamp(nullable=True)


class Scan(SQLModel, table=True):
    """One sweep over a source, or one submission to the live queue (`kind`).

    `listed` counts distinct images; `judged + reused + unchanged + failed` reaches it exactly when the scan is done.
    `fake`, `uncertain` and `real` split judged + reused. `policy` is messages.Policy. `record` is a Record: whether
    images that are as they were leave findings, or are counted as `unchanged`.

    `listing` is producers.scans.Listing: what is listed, by which rules; `cursor` is how far that is; `skipped` counts
    what was passed over, `skipped_by` by cause. `rejudge`: verdicts from before the scan are not reused. A share of
    flagged or failed images above `max_flagged_share` or `max_failed_share` pauses the scan: `note` says why, and
    `paused_from` is the status to go back to. `rate` is the images a second that workers decided, averaged over the
    minute before `counted_at`. `detector_ids` are those whose verdicts it holds. `schedule` and `due_at` say which
    nightly scan it is, of which time. `dropped_at` is when retention dropped its findings.
    """

    __tablename__ = "scans"
    __table_args__ = (
        CheckConstraint("kind IN ('scan', 'live')", name="kind"),
        _one_of("status", ScanStatus),
        _one_of("record", Record),
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
    name: str = _text()
    source: str = _text()
    token: str | None = _text(default=None, unique=True)
    policy: dict[str, Any] = Field(sa_type=JSONB)
    cursor: str | None = _text(default=None)
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
    created_at: datetime = _timestamp()
    finished_at: datetime | None = _timestamp(nullable=True)
    listing: dict[str, Any] | None = Field(default=None, sa_type=JSONB)
    skipped_by: dict[str, int] | None = Field(default=None, sa_type=JSONB)
    record: str = Field(default="all", sa_type=String(8), sa_column_kwargs={"server_default": "all"})
    rejudge: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    max_flagged_share: float | None = None
    max_failed_share: float | None = None
    paused_from: str | None = Field(default=None, sa_type=String(16))
    note: str | None = _text(default=None)
    rate: float = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    counted_at: datetime | None = _timestamp(nullable=True)
    detector_ids: list[int] = Field(
        default_factory=list,
        sa_column=Column(ARRAY(BigInteger), nullable=False, server_default=text("'{}'::bigint[]")),
    )
    schedule: str | None = _text(default=None)
    due_at: datetime | None = _timestamp(nullable=True)
    dropped_at: datetime | None = _timestamp(nullable=True)


class Unpublished(SQLModel, table=True):
    """Messages of a scan that were listed, but perhaps not published: JudgeImages objects, as they travel.

    A producer's newest chunk, until its next one is committed; and what workers put aside while a scan was paused.
    """

    __tablename__ = "unpublished"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    scan_id: UUID = Field(index=True)
    messages: list[dict[str, Any]] = Field(sa_type=JSONB)


class StoredObject(SQLModel, table=True):
    """What lay at a uri when it was last fetched: what a re-scan asks before it fetches anything.

    `verdict_id` is the verdict that was given or reused there: the first one that a re-scan looks at. `verdict` is what
    the last finding there said, and `rule` the fingerprint of the ReuseRule by which it did.
    """

    __tablename__ = "objects"

    uri: str = _text(primary_key=True)
    etag: str | None = _text(default=None)
    sha256: str = Field(sa_type=String(64))
    size: int = Field(sa_type=BigInteger)
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    verdict: str | None = Field(default=None, sa_type=String(16))
    rule: int | None = Field(default=None, sa_type=BigInteger)
    fetched_at: datetime = _timestamp()


class StoredVerdict(SQLModel, table=True):
    """One answer of one detector about one content. Append-only: a rerun adds a row and overwrites nothing.

    `answer` is the detector's own word: fake, real or undecided. `score` is P(fake) in 0..1, None when undecided.
    `log_odds` is what `score` was calibrated from, in nats. `uri` is where the content lay when it was judged; `width`
    and `height` are the upright image's, in pixels. `explain` is the mode it was asked in: an answer cut short for a
    real image explains less than a full one. `cut_off`: the limit on its length ended it.
    """

    __tablename__ = "verdicts"
    __table_args__ = (
        CheckConstraint("answer IN ('fake', 'real', 'undecided')", name="answer"),
        CheckConstraint("score BETWEEN 0 AND 1", name="score"),
        Index(None, "sha256", "detector_id", "id"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    sha256: str = Field(sa_type=String(64))
    detector_id: int = Field(sa_type=BigInteger, foreign_key="detectors.id")
    uri: str = _text()
    width: int
    height: int
    explain: str = Field(sa_type=String(8))
    answer: str = Field(sa_type=String(16))
    score: float | None = None
    log_odds: float | None = None
    completion: str = _text()
    explanation: str | None = _text(default=None)
    contradicts: bool = False
    cut_off: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    prompt_tokens: int
    completion_tokens: int
    latency_ms: int
    created_at: datetime = _timestamp()


class Finding(SQLModel, table=True):
    """What a scan found at a uri: one row, one outcome. `reused_from` is the uri whose judgement was reused."""

    __tablename__ = "findings"
    __table_args__ = (
        _one_of("outcome", Outcome),
        _one_of("verdict", Verdict),
        CheckConstraint("(outcome = 'failed') = (reason IS NOT NULL)", name="failed_has_reason"),
        CheckConstraint("(outcome = 'failed') = (verdict IS NULL)", name="decided_has_verdict"),
        Index("ix_findings_uri", "uri", "decided_at"),
        Index(
            "ix_findings_flagged",
            "scan_id",
            text("score DESC NULLS LAST"),
            postgresql_where=text("verdict = 'fake'"),
        ),
        Index("ix_findings_flagged_at", "decided_at", postgresql_where=text("verdict = 'fake'")),
        {"postgresql_partition_by": "LIST (partition)"},
    )

    partition: str = Field(sa_type=String(63), primary_key=True)
    scan_id: UUID = Field(primary_key=True)
    uri: str = _text(primary_key=True)
    external_id: str | None = _text(default=None)
    outcome: str = Field(sa_type=String(8))
    verdict: str | None = Field(default=None, sa_type=String(16))
    score: float | None = None
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    reused_from: str | None = _text(default=None)
    reason: str | None = Field(default=None, sa_type=String(32))
    detail: str | None = _text(default=None)
    etag: str | None = _text(default=None)
    sha256: str | None = Field(default=None, sa_type=String(64))
    width: int | None = None
    height: int | None = None
    attempts: int = 1
    decided_at: datetime = _timestamp()


class HourlyCount(SQLModel, table=True):
    """How many findings of a kind there were in an hour. Triggers on `findings` keep it; retention takes nothing away.

    `scan_id` has zeros alone for all submissions together, `detector_id` is 0 and a text empty where there is none.
    `score_bin` is the score in twentieths, rounded down: 0 to 19, and -1 without a score. Rows that differ only in
    `shard` belong together: each connection has its own, so that they do not wait for each other.
    """

    __tablename__ = "findings_hourly"

    hour: datetime = Field(sa_type=DateTime(timezone=True), primary_key=True)
    scan_id: UUID = Field(primary_key=True)
    bucket: str = _text(primary_key=True)
    detector_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    outcome: str = Field(sa_type=String(8), primary_key=True)
    verdict: str = Field(sa_type=String(16), primary_key=True)
    reason: str = Field(sa_type=String(32), primary_key=True)
    score_bin: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    shard: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    findings: int = Field(sa_type=BigInteger)


class ContentHistory(SQLModel, table=True):
    """What became known of a content that a detector called fake or uncertain. Triggers on `findings` keep it.

    `verdict` and `score` are those of its newest finding; `verdict_id`, `uri` and `scan_id` those of the newest one
    that was not real. `superseded`: another detector has judged the content since. `places` counts uris. `statement`
    is what people decided about the content at last, null while nobody has.
    """

    __tablename__ = "contents"
    __table_args__ = (
        Index(
            "ix_contents_to_review",
            text("score DESC NULLS LAST"),
            "first_at",
            postgresql_where=text("verdict <> 'real' AND statement IS NULL AND NOT superseded"),
        ),
        Index(
            "ix_contents_waiting",
            "first_at",
            postgresql_where=text("verdict <> 'real' AND statement IS NULL AND NOT superseded"),
        ),
        Index(
            "ix_contents_places",
            text("places DESC"),
            text("last_flagged_at DESC"),
            postgresql_where=text("first_flagged_at IS NOT NULL"),
        ),
        Index(None, "first_flagged_at"),
    )

    sha256: str = Field(sa_type=String(64), primary_key=True)
    detector_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    verdict: str = Field(sa_type=String(16))
    score: float | None = None
    verdict_id: int = Field(sa_type=BigInteger)
    uri: str = _text()
    scan_id: UUID
    first_at: datetime = Field(sa_type=DateTime(timezone=True))
    last_at: datetime = Field(sa_type=DateTime(timezone=True))
    places: int = Field(sa_type=BigInteger)
    first_flagged_at: datetime | None = _timestamp(nullable=True)
    first_flagged_uri: str | None = _text(default=None)
    first_flagged_scan_id: UUID | None = None
    last_flagged_at: datetime | None = _timestamp(nullable=True)
    last_flagged_uri: str | None = _text(default=None)
    last_flagged_scan_id: UUID | None = None
    superseded: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    statement: str | None = Field(default=None, sa_type=String(16))
    reviewed_at: datetime | None = _timestamp(nullable=True)


class ContentPlace(SQLModel, table=True):
    """A uri at which a detector called a content fake or uncertain."""

    __tablename__ = "content_places"

    sha256: str = Field(sa_type=String(64), primary_key=True)
    detector_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    uri: str = _text(primary_key=True)


class MessageTry(SQLModel, table=True):
    """How often a message that came back was started and not ended: so often the worker died while it had it.

    The row is removed when the message ends.
    """

    __tablename__ = "message_tries"

    message_id: UUID = Field(primary_key=True)
    tries: int
    started_at: datetime = _timestamp()


class Suspect(SQLModel, table=True):
    """An image of a message that was in hand at several deaths of workers.

    The row is written before the image is judged alone, and removed when the worker survives that.
    """

    __tablename__ = "suspects"

    scan_id: UUID = Field(primary_key=True)
    uri: str = _text(primary_key=True)
    tries: int = 1


class Repaired(SQLModel, table=True):
    """An image that a repair published: what is still to come of its scan, until that is done."""

    __tablename__ = "repaired"

    scan_id: UUID = Field(primary_key=True)
    uri: str = _text(primary_key=True)


class Statement(StrEnum):
    """What a person says that a content is."""

    FAKE = "fake"
    REAL = "real"
    CANNOT_TELL = "cannot_tell"


class ReviewKind(StrEnum):
    """Whose turn a review was: the first reviewer's, a later one's, or an appeal, which outranks both."""

    FIRST = "first"
    SECOND = "second"
    APPEAL = "appeal"


class Reviewer(SQLModel, table=True):
    """Who may review, by a pseudonym. Who is not `active` cannot review; their reviews count all the same."""

    __tablename__ = "reviewers"

    name: str = _text(primary_key=True)
    active: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    created_at: datetime = _timestamp()


class Review(SQLModel, table=True):
    """What a person states that a content is, and what its author saw of the detector. Append-only.

    `scan_id` and `uri` are where its author saw the content. `verdict_id` is the verdict that was shown there,
    `detector_id` whose it is, `verdict` and `score` how it read under the scan's policy. Triggers fill these, and
    refuse what does not belong together. Whether the two agree follows from `statement` and `verdict`.

    `decision` is of the release before; triggers fill it, and nothing reads it. Only reviews from before migration 0006
    may have no `statement`, `sha256` or `verdict`: `decision` is then all that their author said.
    """

    __tablename__ = "reviews"
    __table_args__ = (
        CheckConstraint("decision IN ('confirmed', 'overturned', 'cannot_tell')", name="decision"),
        _one_of("statement", Statement),
        _one_of("kind", ReviewKind),
        _one_of("verdict", Verdict),
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
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    scan_id: UUID = Field(foreign_key="scans.id")
    uri: str = _text()
    sha256: str | None = Field(default=None, sa_type=String(64))
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    decision: str | None = Field(default=None, sa_type=String(16), nullable=False)
    reason_code: str | None = _text(default=None)
    note: str | None = _text(default=None)
    reviewer: str = _text(foreign_key="reviewers.name")
    created_at: datetime = _timestamp()
    kind: str | None = Field(default=None, sa_type=String(8), nullable=False)
    statement: str | None = Field(default=None, sa_type=String(16))
    detector_id: int | None = Field(default=None, sa_type=BigInteger)
    verdict: str | None = Field(default=None, sa_type=String(16))
    score: float | None = None


class ReviewedVerdict(SQLModel, table=True):
    """What a detector had said of a content when people first reviewed it, and what stands. Triggers keep it.

    `verdict` is what the first reviewer who saw this detector's word was shown; `week` is the Monday of that week, in
    UTC. `statement` is null while the reviews of the content contradict each other.
    """

    __tablename__ = "reviewed_verdicts"

    sha256: str = Field(sa_type=String(64), primary_key=True)
    detector_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    verdict: str = Field(sa_type=String(16))
    first_reviewed_at: datetime = Field(sa_type=DateTime(timezone=True))
    week: date
    statement: str | None = Field(default=None, sa_type=String(16))
