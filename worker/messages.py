"""The message JudgeImages and the names of its task and its queues. docs/message.md describes it for other
languages.
"""

import hashlib
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
from worker.wording import worded

JUDGE_IMAGES = "moderation.judge_images"
LIVE_QUEUE = "moderation.live"
SCAN_QUEUE = "moderation.scan"
DEAD_QUEUE = "moderation.dead"

MAX_IMAGES = 16
"""Images in one message. 32 threads x 16 images keep a GPU full. With more images, a redelivery would cost too much."""

MAX_ATTEMPT = 10_000
"""Higher than any worker counts, because FAKESWEEP_RETRY_LIMIT is not larger."""

MAX_ALSO = 8
"""Further detectors of a scan. Each judges every image, so nobody can pay for more."""

MAX_URI_BYTES = 2048
"""Bytes in UTF-8: more than S3's 1,024-byte keys with a bucket's name, and less than the 2,704 bytes that fit into
a Postgres index.
"""


FORGOTTEN = "forgotten:"
"""What begins the text that stands in place of a uri that was forgotten. The SHA-256 of the uri follows."""


def texts_of(uri: str) -> tuple[str, str]:
    """Returns the two texts under which tables may hold a uri: itself, and what stands in its place when it is
    forgotten.
    """
    return uri, f"{FORGOTTEN}{hashlib.sha256(uri.encode()).hexdigest()}"


@dataclass(frozen=True)
class _Says:
    """The text of pydantic's error for every value that is refused here. Its own text would only name a pattern."""

    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(handler(source), "unfit", custom_error_message=self.message)


# Nearly all uris are ASCII. pydantic checks these without calling Python, because a producer checks a million of them.
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

# An empty one means unknown. Python is called only for this.
ETag = Annotated[
    Annotated[str, Field(pattern=r"^[^\x00]+$", max_length=256)]
    | Annotated[Literal[""], AfterValidator(lambda _: None)],
    Field(union_mode="left_to_right"),
    _Says(_SHORT.format(256)),
]

Text = Annotated[str, Field(pattern=_NO_NUL), _Says("must be Unicode text without NUL characters")]

DetectorName = Annotated[
    str,
    Field(pattern=_NO_NUL, min_length=1, max_length=100),
    _Says("must be a detector's name: Unicode text of 1 to 100 characters, without NUL"),
]


def _distinct_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must not name a detector twice")
    return names


FurtherNames = Annotated[tuple[DetectorName, ...], Field(max_length=MAX_ALSO), AfterValidator(_distinct_names)]


class Explain(StrEnum):
    """For which images the model writes its reasons: the flagged ones, all, or none."""

    FLAGGED = "flagged"
    ALL = "all"
    NONE = "none"


class Record(StrEnum):
    """For which images a scan keeps findings: for all of them, or only for those that differ from last time."""

    ALL = "all"
    CHANGES = "changes"


class ImageRef(BaseModel):
    """Where an image is, and what it was when it was listed.

    `uri` is `s3://bucket/key`, with the key as S3 has it (nothing escaped), or `file:///path` (percent-encoded). `etag`
    has no quotes. None means unknown: then the object that is there is judged. `size` is in bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: Uri
    etag: ETag | None = None
    size: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    external_id: Annotated[str, Field(pattern=_NO_NUL, max_length=1024), _Says(_SHORT.format(1024))] | None = None


class Thresholds(BaseModel):
    """Thresholds of a detector, as a policy has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fake_from: Annotated[float, Field(ge=0, le=1)]
    real_to: Annotated[float, Field(ge=0, le=1)]


class Policy(BaseModel):
    """How scores become verdicts: `fake` for `fake_from` or more, `real` for `real_to` or less, `uncertain` between
    them.

    A threshold of None means the detector's. The worker fills it in with the scan's first message. `max_tokens` limits
    the length of an answer. None, or more than the detector's own limit, means that limit. With `judge`, the judge
    of a cascade sees every image. `also` names further detectors, which give second opinions by their own thresholds.
    `also_thresholds` has these by name, as they were when the scan was started.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    explain: Explain = Explain.FLAGGED
    fake_from: Annotated[float, Field(ge=0, le=1)] | None = None
    real_to: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=8)] | None = None
    judge: bool = False
    also: FurtherNames = ()
    also_thresholds: dict[DetectorName, Thresholds] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.fake_from is not None and self.real_to is not None and self.real_to > self.fake_from:
            raise ValueError("real_to must not be above fake_from")
        return self

    def stored(self) -> dict[str, Any]:
        """Returns the policy as `scans.policy` stores it. Values that are not set are left out, because workers of
        an older release may not know them.
        """
        unset = {name for name in ("judge", "also") if not getattr(self, name)}
        return self.model_dump(mode="json", exclude_none=True, exclude=unset)

    def filled(self, *, fake_from: float, real_to: float) -> "FilledPolicy":
        """Returns the policy with these thresholds where it has none. If only one was set, the other one is moved
        to fit it.
        """
        if self.fake_from is not None:
            fake_from, real_to = self.fake_from, min(real_to, self.fake_from)
        if self.real_to is not None:
            fake_from, real_to = max(fake_from, self.real_to), self.real_to
        return FilledPolicy(**self.model_dump() | {"fake_from": fake_from, "real_to": real_to})


class FilledPolicy(Policy):
    """A policy with both thresholds, by which the scores of a scan become verdicts."""

    fake_from: Annotated[float, Field(ge=0, le=1)]
    real_to: Annotated[float, Field(ge=0, le=1)]

    def of_detector(self, max_tokens: int | None, explain: Explain | None = None) -> Self:
        """Returns what the detector is asked for, with this limit on its answers. A message may set `explain`.

        A limit of None means that the detector gives no reasons. It is asked for none, so that its verdicts serve every
        scan.
        """
        if max_tokens is None:
            return self.model_copy(update={"explain": Explain.NONE, "max_tokens": None})
        limit = max_tokens if self.max_tokens is None else min(max_tokens, self.max_tokens)
        return self.model_copy(update={"explain": explain or self.explain, "max_tokens": limit})

    def of_further(
        self, name: str, max_tokens: int | None, explain: Explain | None = None, *, fake_from: float, real_to: float
    ) -> Self:
        """Returns what a further detector is asked for: as `of_detector`, but with the thresholds of that detector.

        The thresholds of the scan are for the main detector. Another one has other scores. Its own are those with which
        the scan was started, or else the given ones.
        """
        pinned = (self.also_thresholds or {}).get(name) or Thresholds(fake_from=fake_from, real_to=real_to)
        own = self.model_copy(update={**pinned.model_dump(), "also": (), "also_thresholds": None})
        return own.of_detector(max_tokens, explain)


class JudgeImages(BaseModel):
    """Judge 1 to 16 images.

    Without `scan_id`, the message is a submission of its own, named by its message id. `attempt` counts the delayed
    re-publishings of images whose storage was away. With `again`, images that failed in this scan are judged again, and
    the new outcome replaces the old one. With `judge`, the judge of a cascade sees every image. `also` names further
    detectors for a submission. The policy of a scan names them for all of its images, so a message of a scan has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    scan_id: UUID | None = None
    images: Annotated[tuple[ImageRef, ...], Field(min_length=1, max_length=MAX_IMAGES)]
    explain: Explain | None = None
    attempt: Annotated[int, Field(ge=0, le=MAX_ATTEMPT)] = 0
    again: bool = False
    judge: bool | None = None
    also: FurtherNames | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({image.uri for image in self.images}) < len(self.images):
            raise ValueError("images must not name a uri twice")
        return self

    @model_validator(mode="after")
    def _asked_once(self) -> Self:
        if self.scan_id is not None and self.also:
            raise ValueError("also must be left out when scan_id is given, because the policy of the scan has it")
        return self

    @classmethod
    def parse(cls, payload: Any) -> Self:
        """Returns the message in `payload`. Raises InvalidMessageError with every fault in one line."""
        try:
            return cls.model_validate(payload)
        except ValidationError as error:
            faults = (f"{'.'.join(map(str, fault['loc'])) or 'message'}: {worded(fault)}" for fault in error.errors())
            raise InvalidMessageError("; ".join(faults)) from error

    def of_scan(self, scan_id: UUID, **changes: Any) -> Self:
        """Returns the message for a scan that exists, such as the one that its first delivery has opened.

        `changes` replace other fields.
        """
        return self.model_copy(update={"scan_id": scan_id, "also": None, **changes})

    def payload(self) -> dict[str, Any]:
        """Returns the message as it is sent, and as `unpublished` stores it: a JSON object without values that are
        not set.
        """
        return self.model_dump(mode="json", exclude_none=True)


def messages_of(refs: Iterable[ImageRef], **fields: Any) -> Iterator[JudgeImages]:
    """Yields messages with all of the refs in order, MAX_IMAGES each. `fields` are the messages' other fields."""
    remaining = iter(refs)
    while images := tuple(itertools.islice(remaining, MAX_IMAGES)):
        yield JudgeImages(images=images, **fields)
