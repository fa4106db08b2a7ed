"""An image on its way through the worker: what it shares with the other images of its message, and its one end."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal, Self

from worker.detector.verdicts import Judgement, verdict_of
from worker.errors import ImageError
from worker.messages import FilledPolicy, ImageRef
from worker.provenance import ReadProvenance
from worker.similarity import PdqHash
from worker.tables import Scan, Verdict


@dataclass(frozen=True)
class ReuseRule:
    """Which stored verdicts a scan may reuse. worker.database.known has the exact conditions.

    The detector `detector_id` must have given them, at the time `since` or later if that is set. They must explain as
    much as `policy` asks for. `also` has a rule for each further detector: an image is unchanged only if all of them
    allow a verdict, too. `started_at`, of a further detector, is when a worker last started with it.
    """

    detector_id: int
    policy: FilledPolicy
    since: datetime | None
    also: tuple["ReuseRule", ...] = ()
    started_at: datetime | None = None

    @classmethod
    def of(cls, scan: Scan, policy: FilledPolicy, detector_id: int, also: Sequence["Asked"] = ()) -> Self:
        """Returns the rule of a scan. A scan with `rejudge` reuses only its own verdicts."""
        since = scan.created_at if scan.rejudge else None
        further = (ReuseRule(one.detector_id, one.policy, since, started_at=one.started_at) for one in also)
        return cls(detector_id, policy, since, tuple(further))

    @cached_property
    def fingerprint(self) -> int:
        """A signed 64-bit number that identifies the rule. The same rule always treats a stored verdict in the same
        way. Rules without further detectors have the same number as in releases that knew none.
        """
        parts: list[object] = [self.detector_id, self.policy.stored(), self.since and self.since.isoformat()]
        if self.also:
            parts.append([one.fingerprint for one in self.also])
        return _number(parts)

    def fingerprint_without(self, lacking: Collection[int]) -> int:
        """Like `fingerprint`, for an image whose worker lacked these further detectors, so that their opinions are
        missing.

        It changes when a worker starts with one of them. So an unchanged image is published again when somebody may
        give the opinion, and not every night.
        """
        started = [
            [one.detector_id, one.started_at and one.started_at.astimezone(UTC).isoformat()]
            for one in self.also
            if one.detector_id in lacking
        ]
        return _number([self.fingerprint, *started])


def _number(parts: Sequence[object]) -> int:
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


@dataclass(frozen=True)
class Asked:
    """A further detector that gives a second opinion, and what it is asked for, with its own thresholds.

    `maker_id` is what runs it here. If it is not `here`, this process only reuses its stored verdicts, and `started_at`
    is when a worker last started with it.
    """

    detector_id: int
    policy: FilledPolicy
    maker_id: int | None = None
    here: bool = True
    started_at: datetime | None = None


@dataclass(frozen=True)
class Opinion:
    """The second opinion of a further detector about a content.

    `verdict_id` is the stored verdict that it comes from. It is None if the verdict was given in the same message and
    has no row yet. `judgement` is None unless this image's row of `verdicts` must be added.
    """

    detector_id: int
    verdict: Verdict
    score: float | None
    verdict_id: int | None = None
    judgement: Judgement | None = None

    @classmethod
    def of(
        cls, asked: Asked | ReuseRule, score: float | None, verdict_id: int | None = None,
        judgement: Judgement | None = None,
    ) -> Self:  # fmt: skip
        """Returns the opinion, with the verdict by the detector's own thresholds."""
        verdict = verdict_of(score, fake_from=asked.policy.fake_from, real_to=asked.policy.real_to)
        return cls(asked.detector_id, verdict, score, verdict_id, judgement)

    def row(self) -> dict[str, object]:
        """Returns what `findings.opinions` stores."""
        known = {} if self.verdict_id is None else {"verdict_id": self.verdict_id}
        return {"detector_id": self.detector_id, "verdict": self.verdict, "score": self.score, **known}


@dataclass(frozen=True)
class Delivery:
    """What all images of a message share.

    `attempt` counts the delayed re-publishings before this one. With `again`, a new outcome replaces a failure.
    `maker_id` is what judges here. `also` are the further detectors of the scan, also those that this worker lacks. One
    that no worker has started with is named in `policy.also`, but not here.
    """

    scan: Scan
    policy: FilledPolicy
    detector_id: int
    attempt: int = 0
    again: bool = False
    maker_id: int | None = None
    also: tuple[Asked, ...] = ()

    @property
    def rule(self) -> ReuseRule:
        """Which stored verdicts these images may reuse."""
        return ReuseRule.of(self.scan, self.policy, self.detector_id, self.also)

    @property
    def rule_here(self) -> ReuseRule:
        """The same, but for the further detectors of this worker alone: the opinions of others may be missing."""
        return replace(self, also=tuple(one for one in self.also if one.here)).rule


@dataclass(frozen=True)
class Content:
    """The bytes at a uri: their SHA-256 in hexadecimal, and their number.

    `pdq` is the hash for near duplicates, and `provenance` is what the file says about its origin. Each is None if this
    message does not make it.
    """

    sha256: str
    size: int
    pdq: PdqHash | None = None
    provenance: ReadProvenance | None = None


@dataclass(frozen=True)
class KnownVerdict:
    """A verdict that is reused.

    `id` is None if the verdict was given in the same message and has no row yet. `uri` is where the content was when it
    was judged. `width` and `height` are those of the upright image, in pixels. `has_hash`: the content's PDQ hash is
    stored. `has_provenance`: what the content says about its origin is stored, in the revision that was asked for.
    """

    id: int | None
    uri: str
    score: float | None
    width: int
    height: int
    has_hash: bool = True
    has_provenance: bool = True


@dataclass(frozen=True)
class Known:
    """What is known about a content of which a verdict is still lacking: the main verdict, and second opinions."""

    verdict: KnownVerdict | None = None
    opinions: tuple[Opinion, ...] = ()


NOTHING = Known()


@dataclass(frozen=True)
class Judged:
    """The detector judged the image. `size` is (width, height) of the upright image, in pixels."""

    content: Content
    judgement: Judgement
    size: tuple[int, int]


@dataclass(frozen=True)
class Reused:
    """The content has a verdict already.

    `remembered`: `objects` has this content and this verdict already. `found` says how we know: the uri is unchanged,
    the content was seen before, or a twin is in the same message.
    """

    content: Content
    verdict: KnownVerdict
    remembered: bool = False
    found: Literal["unchanged", "seen", "twin"] = "seen"


@dataclass(frozen=True)
class Failed:
    """The image has no verdict. `content` is None if it was not fetched, and `size` if it was not decoded."""

    error: ImageError
    content: Content | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Later:
    """The storage of the image is away. The image is published again, and gets its outcome then."""


End = Judged | Reused | Failed | Later


@dataclass(frozen=True)
class Case:
    """An image, its end, and the second opinions on it. An opinion that is missing is not there."""

    ref: ImageRef
    end: End
    opinions: tuple[Opinion, ...] = ()
