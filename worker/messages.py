"""The one message, JudgeImages, and the names under which it travels. docs/message.md tells other languages."""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from worker.errors import InvalidMessageError

JUDGE_IMAGES = "moderation.judge_images"
LIVE_QUEUE = "moderation.live"
SCAN_QUEUE = "moderation.scan"
DEAD_QUEUE = "moderation.dead"

MAX_IMAGES = 16
"""Images in one message. 32 threads x 16 images keep a GPU full; more would make a redelivery costly."""

MAX_ATTEMPT = 10_000
"""Above what any worker counts: FAKESWEEP_RETRY_LIMIT is no larger."""

MAX_URI_BYTES = 2048
"""UTF-8 bytes. Above S3's 1,024-byte keys plus a bucket's name, below the 2,704 bytes that a Postgres index takes."""


@dataclass(frozen=True)
class _Says:
    """What pydantic says of every value that it refuses here, in place of a message that names a pattern."""

    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(handler(source), "unfit", custom_error_message=self.message)


# A uri of ASCII characters, as nearly all are, is checked without a call of Python: a producer checks a million.
_ASCII_URI = r"^(?:s3://[\x01-\x2e\x30-\x7f]+/[\x01-\x7f]+|file:///[\x01-\x7f]*)$"
_URI = re.compile(r"s3://[^/\x00]+/[^\x00]+|file:///[^\x00]*")
_NO_NUL = r"^[^\x00]*$"
_SHORT = "must be Unicode text of at most {} characters, without NUL"


def _checked_uri(uri: str) -> str:
    if not _URI.fullmatch(uri) or len(uri.encode()) > MAX_URI_BYTES:
        raise ValueError
    return uri


Uri = Annotated[
    Annotated[str, Field(pattern=_ASCII_URI, max_length=MAX_URI_BYTES)] | Annotated[str, AfterValidator(_checked_uri)],
    Field(union_mode="left_to_right"),
    _Says(f"must be s3://bucket/key or file:///path: Unicode text of at most {MAX_URI_BYTES} bytes, without NUL"),
]

# An empty one is unknown. Python is called for that alone.
ETag = Annotated[
    Annotated[str, Field(pattern=r"^[^\x00]+$", max_length=256)]
    | Annotated[Literal[""], AfterValidator(lambda _: None)],
    Field(union_mode="left_to_right"),
    _Says(_SHORT.format(256)),
]

Text = Annotated[str, Field(pattern=_NO_NUL), _Says("must be Unicode text without NUL characters")]


class Explain(StrEnum):
    """For which images the model writes its reasons: the flagged ones, all, or none."""

    FLAGGED = "flagged"
    ALL = "all"
    NONE = "none"


class Record(StrEnum):
    """Of which images a scan keeps findings: of all, or of those that are not as they were last time."""

    ALL = "all"
    CHANGES = "changes"


class ImageRef(BaseModel):
    """Where an image lies and what it was when it was listed.

    `uri` is `s3://bucket/key` with the key as S3 has it (nothing escaped) or `file:///path` (percent-encoded).
    `etag` without quotes; None means unknown: whatever lies there is judged. `size` in bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: Uri
    etag: ETag | None = None
    size: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    external_id: Annotated[str, Field(pattern=_NO_NUL, max_length=1024), _Says(_SHORT.format(1024))] | None = None


class Policy(BaseModel):
    """How scores become verdicts: `fake` from `fake_from` up, `real` from `real_to` down, `uncertain` between.

    A threshold that is None is the detector's; the worker fills it in with the scan's first message. `max_tokens` of an
    answer; None, or more than the detector's own limit, means that limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    explain: Explain = Explain.FLAGGED
    fake_from: Annotated[float, Field(ge=0, le=1)] | None = None
    real_to: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=8)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.fake_from is not None and self.real_to is not None and self.real_to > self.fake_from:
            raise ValueError("real_to must not be above fake_from")
        return self

    def stored(self) -> dict[str, Any]:
        """As `scans.policy` holds it: without what is not set, which workers of a release before would not know."""
        return self.model_dump(mode="json", exclude_none=True)

    def filled(self, *, fake_from: float, real_to: float) -> "FilledPolicy":
        """With these thresholds where it has none; one that was set moves the other out of its way."""
        if self.fake_from is not None:
            fake_from, real_to = self.fake_from, min(real_to, self.fake_from)
        if self.real_to is not None:
            fake_from, real_to = max(fake_from, self.real_to), self.real_to
        return FilledPolicy(explain=self.explain, fake_from=fake_from, real_to=real_to, max_tokens=self.max_tokens)


class FilledPolicy(Policy):
    """A policy with both thresholds: what the scores of a scan are read by."""

    fake_from: Annotated[float, Field(ge=0, le=1)]
    real_to: Annotated[float, Field(ge=0, le=1)]

    def of_detector(self, max_tokens: int, explain: Explain | None = None) -> Self:
        """What is asked of a detector with that limit on its answers, by a message that may wish for an `explain`."""
        limit = max_tokens if self.max_tokens is None else min(max_tokens, self.max_tokens)
        return self.model_copy(update={"explain": explain or self.explain, "max_tokens": limit})


class JudgeImages(BaseModel):
    """Judge 1 to 16 images. Without `scan_id` the message is a submission of its own, named by its message id.

    `attempt` counts the delayed re-publishings of images whose storage was away. With `again`, images that failed in
    this scan are taken once more, and the new outcome replaces the old one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    scan_id: UUID | None = None
    images: Annotated[tuple[ImageRef, ...], Field(min_length=1, max_length=MAX_IMAGES)]
    explain: Explain | None = None
    attempt: Annotated[int, Field(ge=0, le=MAX_ATTEMPT)] = 0
    again: bool = False

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({image.uri for image in self.images}) < len(self.images):
            raise ValueError("images must not name a uri twice")
        return self

    @classmethod
    def parse(cls, payload: Any) -> Self:
        """The message in `payload`; raises InvalidMessageError with every fault in one line."""
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc'])) or 'message'}: {fault['msg']}" for fault in error.errors())
            raise InvalidMessageError("; ".join(faults)) from error

    def payload(self) -> dict[str, Any]:
        """The message as it travels, and as `unpublished` keeps it: a JSON object without what is not set."""
        return self.model_dump(mode="json", exclude_none=True)


def messages_of(refs: Iterable[ImageRef], **fields: Any) -> Iterator[JudgeImages]:
    """Messages that name all of the refs in their order, MAX_IMAGES each; `fields` are the messages' other fields."""
    remaining = iter(refs)
    while images := tuple(itertools.islice(remaining, MAX_IMAGES)):
        yield JudgeImages(images=images, **fields)
