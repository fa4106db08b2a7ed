"""A person takes back what they decided last."""

from dataclasses import dataclass
from datetime import timedelta

from producers.web.access.people import Person
from producers.web.desk.claims import Claimed
from worker.database import Database
from worker.tables import Statement

WITHIN = timedelta(hours=12)
"""How long a decision can be taken back."""
CLAIM_S = 600


@dataclass(frozen=True)
class Undone:
    """What was taken back: of this content, and of near duplicates that were decided with it.

    `claim` is None when the content cannot be claimed again: somebody else works on it.
    """

    sha256: str
    statement: Statement
    reason_code: str | None
    note: str | None
    also: tuple[str, ...]
    claim: Claimed | None


def undo_last(
    database: Database, person: Person, *, within: timedelta = WITHIN, claim_s: float = CLAIM_S
) -> Undone | None:
    """Withdraws the person's newest decision, and claims its content for them. None when there is none to withdraw."""
    raise NotImplementedError
