"""Models of requests and answers about scans."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, WithJsonSchema, model_validator

from producers.limits import Limits
from producers.reporting import results
from producers.web.api.models import Asked, Counted, Number, Share, ShortText, WithPolicy, strictly
from producers.web.api.paging import Page
from worker.messages import Explain, Policy, Record, Text
from worker.tables import Scan

SourceText = Annotated[
    Text,
    WithJsonSchema({"type": "string", "pattern": r"^(s3://[^/\u0000]+|file:///)[^\u0000]*$", "maxLength": 2048}),
    Field(pattern=r"^(s3://[^/\x00]+|file:///)[^\x00]*$", max_length=2048, examples=["s3://photos/2026/"]),
]


class StartScan(WithPolicy):
    """A scan to start."""

    sources: list[SourceText] = Field(
        min_length=1,
        max_length=20,
        description="s3://bucket/prefix, or several; an S3 Inventory's manifest.json or another manifest; or "
        "file:///…, a folder or a file, where the server allows it.",
    )
    name: ShortText | None = Field(None, description="A name for people.", examples=["photos of 2026"])
    token: ShortText | None = Field(
        None, description="A text of your own. If you repeat a request with it, you get the scan of the first request."
    )
    suffixes: list[ShortText] = Field(
        [], max_length=50, description="Only keys with these endings.", examples=[[".jpg"]]
    )
    min_bytes: Annotated[int, Field(ge=0, lt=2**63), Number] | None = Field(None, description="Skip smaller ones.")
    max_bytes: Annotated[int, Field(ge=0, lt=2**63), Number] | None = Field(None, description="Skip larger ones.")
    rejudge: Annotated[bool, Field(strict=True)] = Field(False, description="Reuse no verdict from before this scan.")
    record: Record = Field(
        Record.ALL, description="Store a finding for each image, or only for images that have changed."
    )
    max_flagged_share: Share | None = Field(
        Limits.max_flagged_share, description="Pause when a larger share is flagged; null is no limit."
    )
    max_failed_share: Share | None = Field(
        Limits.max_failed_share, description="Pause when a larger share failed; null is no limit."
    )

    @model_validator(mode="after")
    def _sizes_ordered(self) -> Self:
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise ValueError("min_bytes must not be above max_bytes")
        return self


class ResumeScan(Asked):
    """New limits of a scan. A limit that paused it no longer applies, unless another one is given."""

    max_flagged_share: Share | None = None
    max_failed_share: Share | None = None


class AppliedPolicy(Asked):
    """How scores become verdicts. A threshold that is null is the detector's, until the first image is judged."""

    explain: Explain
    fake_from: float | None
    real_to: float | None
    max_tokens: int | None
    judge: bool = Field(description="Whether the judge of a cascade sees every image.")
    also: list[str] = Field(description="Further detectors, which give second opinions.")


class ScanShown(Counted):
    """A scan."""

    name: str
    source: str
    record: Record
    policy: AppliedPolicy
    skipped: int = Field(description="Objects that are no images, or that the rules exclude.")
    skipped_by: dict[str, int] | None = Field(description="The same by cause.")
    share_flagged: float
    share_failed: float
    images_per_s: float = Field(description="How fast workers decide images, over the last minute or so.")
    seconds_left: int | None = Field(description="How long it takes at this rate; null when nobody knows.")
    stalled_s: int | None = Field(description="Seconds since anything moved, when that is over an hour.")
    schedule: str | None = Field(description="The nightly schedule that started it.")
    due_at: datetime | None
    dropped_at: datetime | None = Field(description="When its findings were dropped.")


class ScanPage(Page[ScanShown]):
    """Scans, the newest first."""


def shown(scan: Scan) -> ScanShown:
    """A scan as the API shows it."""
    found = results.counts(scan)
    own = {name: getattr(scan, name) for name in ("id", "schedule", "due_at", "dropped_at")}
    more = {
        "policy": strictly(AppliedPolicy, Policy.model_validate(scan.policy).model_dump()),
        "images_per_s": found["rate"],
        "seconds_left": found["eta_s"],
    }
    return ScanShown.model_validate(strictly(ScanShown, found | own | more))
