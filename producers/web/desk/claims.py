"""Who works on what: a content is one person's for a while, and nobody else's."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from producers.web.access.people import Person
from producers.web.desk.queue import Filters
from worker.database import Database
from worker.errors import FakesweepError


@dataclass(frozen=True)
class Claimed:
    """A content that is the person's until `until`, unless they keep it longer."""

    id: UUID
    sha256: str
    until: datetime


@dataclass(frozen=True)
class Held:
    """A content that somebody else works on."""

    reviewer: str
    until: datetime


class NotWaitingError(FakesweepError):
    """The content does not wait for this person: the text says why. It can still be looked at."""


def next_content(database: Database, person: Person, filters: Filters, claim_s: float) -> Claimed | None:
    """Claims what waits longest or is worst for this person; None when nothing waits for them.

    Who holds a claim whose content still waits and fits the filters gets that one again, with a new `until`.
    """
    raise NotImplementedError


def claim(database: Database, person: Person, sha256: str, claim_s: float) -> Claimed | Held:
    """Claims this content, or says who holds it. Who holds it already keeps their claim. Raises NotWaitingError."""
    raise NotImplementedError


def keep(database: Database, person: Person, claim_id: UUID, claim_s: float) -> datetime | None:
    """Makes a claim hold on: until when. None when it is lost."""
    raise NotImplementedError


def release(database: Database, person: Person, claim_id: UUID) -> None:
    """Gives a content back to the queue. Does nothing when the claim is lost."""
    raise NotImplementedError


def skip(database: Database, person: Person, sha256: str) -> None:
    """Gives it back, and not to this person again for an hour, unless nothing else waits."""
    raise NotImplementedError


def holder(database: Database, sha256: str) -> Held | None:
    """Who works on this content now."""
    raise NotImplementedError
