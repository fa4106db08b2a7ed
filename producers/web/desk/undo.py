"""A person takes back what they decided last."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from producers.web.access.people import Person
from producers.web.desk.claims import ONE_PERSON, Claimed, is_mine, take
from producers.web.desk.deciding import LOCK_CONTENTS
from worker.database import Database, transaction
from worker.tables import Statement

WITHIN = timedelta(hours=12)
"""How long a decision can be taken back."""
CLAIM_S = 600


@dataclass(frozen=True)
class Undone:
    """What was taken back: of this content, and of near duplicates that were decided with it.

    `claim` is None when the content cannot be claimed again: somebody else works on it, or it waits for a lead.
    """

    sha256: str
    statement: Statement
    reason_code: str | None
    note: str | None
    also: tuple[str, ...]
    claim: Claimed | None


_OWN = "r.reviewer = :me AND NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id OFFSET 0)"
_NEWEST = f"""
SELECT r.id, r.claim_id FROM reviews r
WHERE {_OWN} AND r.sha256 IS NOT NULL AND r.statement IS NOT NULL AND r.created_at > now() - CAST(:within AS interval)
ORDER BY r.id DESC LIMIT 1
"""  # noqa: S608 - a constant of this file
_STROKE = f"""
SELECT r.id, r.sha256, r.statement, r.reason_code, r.note FROM reviews r
WHERE {_OWN} AND {{which}}
ORDER BY r.id
"""  # noqa: S608 - likewise
_WITHDRAW = "INSERT INTO withdrawals (review_id, reviewer) VALUES (:id, :me)"
_STANDS = "SELECT statement, last_reviewer FROM review_status WHERE sha256 = :sha256"
_NO_SECOND_LOOK = "DELETE FROM second_looks WHERE sha256 = :sha256"
_SECOND_LOOK = """
INSERT INTO second_looks (sha256, first_reviewer) VALUES (:sha256, :other) ON CONFLICT (sha256) DO NOTHING
"""


def undo_last(
    database: Database, person: Person, *, within: timedelta = WITHIN, claim_s: float = CLAIM_S
) -> Undone | None:
    """Withdraws the person's newest decision, and claims its content for them. None when there is none to withdraw."""
    with transaction(database) as session:
        session.execute(text(ONE_PERSON), {"me": person.name})
        stroke = _last_stroke(session, person, within)
        if not stroke:
            return None
        session.execute(text(LOCK_CONTENTS), {"contents": [row.sha256 for row in stroke]})
        for row in stroke:
            session.execute(text(_WITHDRAW), {"id": row.id, "me": person.name})
            _look_again(session, person, row.sha256)
        first = stroke[0]
        taken = take(session, person, first.sha256, claim_s) if is_mine(session, person, first.sha256) else None
    return Undone(
        first.sha256,
        Statement(first.statement),
        first.reason_code,
        first.note,
        tuple(row.sha256 for row in stroke[1:]),
        taken if isinstance(taken, Claimed) else None,
    )


def _last_stroke(session: Session, person: Person, within: timedelta) -> Sequence[Any]:
    """The reviews of the last decision: the content that was looked at, and then its near duplicates."""
    newest = session.execute(text(_NEWEST), {"me": person.name, "within": within}).first()
    if newest is None:
        return []
    which = "r.id = :id" if newest.claim_id is None else "r.claim_id = :claim_id"
    query = text(_STROKE.format(which=which))
    return session.execute(query, {"me": person.name, **newest._mapping}).all()  # noqa: SLF001 - SQLAlchemy's own name


def _look_again(session: Session, person: Person, sha256: str) -> None:
    """Second looks as they are without the review.

    Where nobody else's word is left, none is wanted: who is giving one gives the first. Where another person's stands,
    this person's is the second look.
    """
    given = {"sha256": sha256, "me": person.name}
    stands = session.execute(text(_STANDS), given).first()
    if stands is None:
        session.execute(text(_NO_SECOND_LOOK), given)
    elif stands.statement is not None and stands.last_reviewer != person.name:
        session.execute(text(_SECOND_LOOK), given | {"other": stands.last_reviewer})
