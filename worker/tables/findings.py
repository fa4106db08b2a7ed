"""The tables of detectors, their verdicts on contents, and the findings of scans."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from worker.tables.columns import long_text, one_of, timestamp


class Outcome(StrEnum):
    """The result for an image in a scan. Every listed image gets exactly one outcome."""

    JUDGED = "judged"
    REUSED = "reused"
    FAILED = "failed"


class Verdict(StrEnum):
    """What a score means under the scan's policy. An undecided answer is uncertain."""

    FAKE = "fake"
    UNCERTAIN = "uncertain"
    REAL = "real"


class Stage(StrEnum):
    """Which stage of a cascade gave a verdict: the first one cleared the image, or the judge saw it.

    `audit` is the judge, too: it saw an image that the first stage would have cleared, to find out how often the first
    stage is wrong.
    """

    FIRST = "first"
    JUDGE = "judge"
    AUDIT = "audit"


NO_PROMPT = "none"
"""The revision of the prompt of a detector that has none: it gives a score and no reasons."""


class Detector(SQLModel, table=True):
    """A model, its revision, and everything else that can change a score. Verdicts name it by `id`.

    `description` holds all of this, prompt and calibration included, as the worker that started last with it read
    it. What can change without a new fingerprint, such as the thresholds, is that worker's.
    `started_at` is when a worker last started with it: producers reuse the verdicts of the detector that started last.
    `prompt_revision` is NO_PROMPT for a classifier.
    `also_at` is when a worker last started with it as a further detector, for second opinions.
    """

    __tablename__ = "detectors"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    fingerprint: str = Field(sa_type=String(64), unique=True)
    name: str = long_text()
    model: str = long_text()
    revision: str = long_text()
    prompt_revision: str = long_text()
    preprocessing_revision: str = long_text()
    dtype: str = long_text()
    quantization: str | None = long_text(default=None)
    notice: str | None = long_text(default=None)
    description: dict[str, Any] | None = Field(default=None, sa_type=JSONB)
    created_at: datetime = timestamp()
    started_at: datetime | None = timestamp(nullable=True)
    also_at: datetime | None = timestamp(nullable=True)

    @property
    def gives_reasons(self) -> bool:
        """Whether it has a prompt, so that it can say why. A classifier only gives a score."""
        return self.prompt_revision != NO_PROMPT


class StoredObject(SQLModel, table=True):
    """The content that was at a uri when it was last fetched. A re-scan reads this before it fetches anything.

    `verdict_id` is the verdict that was given or reused there; a re-scan reads it first. `verdict` is the verdict of
    the last finding at the uri, and `rule` is the fingerprint of the ReuseRule that led to it, or its
    `fingerprint_without` if the worker lacked further detectors. `fetched_at` is when the object was last fetched, or
    when a worker stored another rule for it.
    """

    __tablename__ = "objects"

    uri: str = long_text(primary_key=True)
    etag: str | None = long_text(default=None)
    sha256: str = Field(sa_type=String(64))
    size: int = Field(sa_type=BigInteger)
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    verdict: str | None = Field(default=None, sa_type=String(16))
    rule: int | None = Field(default=None, sa_type=BigInteger)
    fetched_at: datetime = timestamp()


class StoredVerdict(SQLModel, table=True):
    """One answer of one detector about one content. Append-only: judging again adds a row and overwrites nothing.

    `answer` is the detector's own word: fake, real or undecided. `score` is P(fake) in 0..1, None when undecided.
    `log_odds`, in nats, is the value from which `score` was calibrated. `uri` is where the content was when it was
    judged. `width` and `height` are those of the upright image, in pixels. `explain` is the mode in which the detector
    was asked: an answer that ends early for a real image explains less than a full one. `cut_off`: the limit on its
    length ended the answer. `maker_id` is the row of `makers`; verdicts from before migration 0015 have none.
    `stage` is a Stage, and `first_score` the score of a cascade's first stage; both are None for other detectors.
    """

    __tablename__ = "verdicts"
    __table_args__ = (
        CheckConstraint("answer IN ('fake', 'real', 'undecided')", name="answer"),
        CheckConstraint("score BETWEEN 0 AND 1", name="score"),
        one_of("stage", Stage),
        Index(None, "sha256", "detector_id", "id"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    sha256: str = Field(sa_type=String(64))
    detector_id: int = Field(sa_type=BigInteger, foreign_key="detectors.id")
    uri: str = long_text()
    width: int
    height: int
    explain: str = Field(sa_type=String(8))
    answer: str = Field(sa_type=String(16))
    score: float | None = None
    log_odds: float | None = None
    completion: str = long_text()
    explanation: str | None = long_text(default=None)
    contradicts: bool = False
    cut_off: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    prompt_tokens: int
    completion_tokens: int
    latency_ms: int
    created_at: datetime = timestamp()
    maker_id: int | None = Field(default=None, sa_type=BigInteger)
    stage: str | None = Field(default=None, sa_type=String(8))
    first_score: float | None = None


class Finding(SQLModel, table=True):
    """What a scan found at a uri: one row, one outcome. `reused_from` is the uri whose judgement was reused.

    `opinions` are the second opinions of further detectors, in the order in which the scan names them. Each has
    `detector_id`, `verdict`, `score` and `verdict_id`. It is null if the scan asks for none. An opinion that is missing
    is not in the list.
    """

    __tablename__ = "findings"
    __table_args__ = (
        one_of("outcome", Outcome),
        one_of("verdict", Verdict),
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
    uri: str = long_text(primary_key=True)
    external_id: str | None = long_text(default=None)
    outcome: str = Field(sa_type=String(8))
    verdict: str | None = Field(default=None, sa_type=String(16))
    score: float | None = None
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    reused_from: str | None = long_text(default=None)
    reason: str | None = Field(default=None, sa_type=String(32))
    detail: str | None = long_text(default=None)
    etag: str | None = long_text(default=None)
    sha256: str | None = Field(default=None, sa_type=String(64))
    width: int | None = None
    height: int | None = None
    attempts: int = 1
    decided_at: datetime = timestamp()
    opinions: list[dict[str, Any]] | None = Field(default=None, sa_type=JSONB(none_as_null=True))
