"""What waits for a person: by filters, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from producers.web.access.people import Person
from worker.database import Database
from worker.tables import Verdict


@dataclass(frozen=True)
class Filters:
    """Which contents: all that is given must fit. `contents` are SHA-256s."""

    scan_id: UUID | None = None
    bucket: str | None = None
    detector_id: int | None = None
    verdict: Verdict | None = None
    external_id: str | None = None
    contents: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Waiting:
    """A content that waits. `second_look`: another person decided it first, and a second word is wanted.

    `reviews` and `disputed` are 0 and False where the first word is withheld from who asks: for second looks.
    """

    sha256: str
    detector_id: int
    detector_name: str
    verdict: Verdict
    score: float | None
    verdict_id: int
    uri: str
    scan_id: UUID
    scan_name: str | None
    first_at: datetime
    age_s: float
    places: int
    reviews: int
    disputed: bool
    second_look: bool
    held_by: str | None
    held_until: datetime | None


@dataclass(frozen=True)
class Page:
    """Some of what waits, in the order in which it is given out. `next` is where the next page begins; None: nowhere."""

    items: Sequence[Waiting]
    next: str | None


@dataclass(frozen=True)
class ScanChoice:
    """A scan with contents that wait."""

    scan_id: UUID
    name: str | None


@dataclass(frozen=True)
class DetectorChoice:
    """A detector with contents that wait."""

    detector_id: int
    name: str


@dataclass(frozen=True)
class Choices:
    """What filters can be set to: each has at most 100."""

    scans: Sequence[ScanChoice]
    buckets: Sequence[str]
    detectors: Sequence[DetectorChoice]


def waiting(
    database: Database, person: Person, filters: Filters, *, after: str | None = None, limit: int = 50
) -> Page:
    """What waits for this person. Raises UsageError for an `after` that no page gave."""
    raise NotImplementedError


def how_many(database: Database, filters: Filters) -> int:
    """How many contents wait for a first word or are disputed; second looks are not counted."""
    raise NotImplementedError


def choices(database: Database) -> Choices:
    """What filters can be set to."""
    raise NotImplementedError
