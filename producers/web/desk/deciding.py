"""A person decides what a content is."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from producers.web.access.people import Person
from producers.web.desk.reasons import Reasons
from worker.database import Database
from worker.errors import FakesweepError
from worker.tables import ReviewKind, Statement


@dataclass(frozen=True)
class Shown:
    """What the person saw: the place in a scan, and the verdict there."""

    scan_id: UUID
    uri: str
    verdict_id: int


@dataclass(frozen=True)
class Decision:
    """What the person says. `also` are near duplicates, by SHA-256, of which they say the same."""

    statement: Statement
    reason_code: str | None = None
    note: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class SecondShare:
    """Which contents get a second look: those whose HMAC with the `secret` is below the `share` of 0 to 1."""

    secret: bytes
    share: float


@dataclass(frozen=True)
class Decided:
    """What was stored. `left_out` are near duplicates that did not wait any more, or that somebody else works on."""

    review_id: int
    sha256: str
    statement: Statement
    kind: ReviewKind
    decided_at: datetime
    second_look: bool
    also: tuple[str, ...]
    left_out: tuple[str, ...]


class ClaimLostError(FakesweepError):
    """The person's claim does not hold any more: `holder` has it, or `decided_by` has decided it, or neither."""

    def __init__(self, text: str, *, holder: str | None = None, decided_by: str | None = None) -> None:
        super().__init__(text)
        self.holder = holder
        self.decided_by = decided_by


class GoneError(FakesweepError):
    """The content left the queue meanwhile: the text says why."""


def decide(
    database: Database,
    person: Person,
    claim_id: UUID,
    sha256: str,
    shown: Shown,
    decision: Decision,
    chance: SecondShare,
    reasons: Reasons,
) -> Decided:
    """Stores what the person says of the content that they have claimed. The same request again changes nothing more.

    Raises ClaimLostError, GoneError, UsageError (for a reason code that is not among `reasons`), and what
    producers.reviews.review raises.
    """
    raise NotImplementedError
