"""Takes back a person's last decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from producers.web.access.people import Person
from producers.web.desk.claims import ONE_PERSON, Claimed, take
from producers.web.desk.deciding import LOCK_CONTENTS
from producers.web.desk.turns import is_mine
from worker.database import Database, transaction
from worker.tables import ReviewKind, Statement

WITHIN = timedelta(hours=12)
"""How long a decision can be taken back."""


@dataclass(frozen=True)
class Undone:
    """What was taken back: the decision about this content, and about near duplicates that were decided with it.

    `claim` is None if the content cannot be claimed again, because somebody else works on it or it waits for a lead.
    """

    sha256: str
    statement: Statement
    reason_code: str | None
    note: str | None
    also: tuple[str, ...]
    claim: Claimed | None


_STANDS = "NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id OFFSET 0)"
_TO_TAKE_BACK = """
r.reviewer = :me AND r.sha256 IS NOT NULL AND r.statement IS NOT NULL
AND r.created_at > now() - CAST(:within AS interval)
"""
_NEWEST = f"SELECT r.id, r.claim_id FROM reviews r WHERE {_TO_TAKE_BACK} AND {_STANDS} ORDER BY r.id DESC LIMIT 1"  # noqa: S608 - constants of this file
_NAMED = f"SELECT r.id, r.claim_id FROM reviews r WHERE r.id = :newest AND {_TO_TAKE_BACK}"  # noqa: S608 - likewise
_STROKE = f"""
SELECT r.id, r.sha256, r.statement, r.reason_code, r.note, {_STANDS} AS stands FROM reviews r
WHERE r.reviewer = :me AND r.{{key}} = :{{key}}
ORDER BY r.id
"""  # noqa: S608 - likewise
_WITHDRAW = "INSERT INTO withdrawals (review_id, reviewer) VALUES (:id, :me)"
_LEFT = f"""
SELECT r.reviewer, r.kind, r.second_of FROM reviews r
WHERE r.sha256 = :sha256 AND r.statement IS NOT NULL AND {_STANDS}
"""  # noqa: S608 - likewise
# Except one that somebody is giving right now: they continue without knowing what was said.
_NO_SECOND_LOOK = """
DELETE FROM second_looks l
WHERE l.sha256 = :sha256
  AND NOT EXISTS (SELECT FROM claims k WHERE k.sha256 = l.sha256 AND k.until > now() AND k.reviewer <> :me)
"""
_SECOND_OF = "SELECT second_of FROM reviews WHERE id = :id"
_SECOND_LOOK = """
INSERT INTO second_looks (sha256, first_reviewer) VALUES (:sha256, :other) ON CONFLICT (sha256) DO NOTHING
"""


def newest_decision(database: Database, person: Person, *, within: timedelta = WITHIN) -> int | None:
    """Returns the id of the review that `undo_last` would take back now, or None.

    A page puts it into its form and sends it back, so that a repeated request takes nothing else back.
    """
    with transaction(database) as session:
        newest = session.execute(text(_NEWEST), {"me": person.name, "within": within}).first()
    return newest.id if newest else None


def undo_last(
    database: Database,
    person: Person,
    *,
    newest: int | None = None,
    claim_s: float,
    within: timedelta = WITHIN,
) -> Undone | None:
    """Withdraws a decision of the person, and claims its content for them. Returns None if there is nothing to
    withdraw.

    `newest` is the result of `newest_decision` when the page was shown. If this review is already withdrawn, nothing
    more is withdrawn, and the result is the same. Without `newest`, the newest decision is withdrawn.
    """
    with transaction(database) as session:
        session.execute(text(ONE_PERSON), {"me": person.name})
        stroke = _stroke(session, person, newest, within)
        if not stroke:
            return None
        session.execute(text(LOCK_CONTENTS), {"contents": [row.sha256 for row in stroke]})
        for row in stroke:
            if row.stands:
                session.execute(text(_WITHDRAW), {"id": row.id, "me": person.name})
                _look_again(session, person, row.sha256, row.id)
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


def _stroke(session: Session, person: Person, newest: int | None, within: timedelta) -> Sequence[Any]:
    """Returns the reviews of a decision: first that of the content on the page, then those of its near duplicates."""
    given = {"me": person.name, "within": within, "newest": newest}
    found = session.execute(text(_NEWEST if newest is None else _NAMED), given).first()
    if found is None:
        return []
    key = "id" if found.claim_id is None else "claim_id"
    return session.execute(text(_STROKE.format(key=key)), {"me": person.name, key: getattr(found, key)}).all()


def _look_again(session: Session, person: Person, sha256: str, withdrawn: int) -> None:
    """Brings second looks into the state that fits the remaining reviews.

    If no statement is left, no second look is wanted: the person who is giving one gives the first statement. If one
    other person's statement is left, and one of the two was the second look at the other, a second look is wanted
    again. After an appeal, none is wanted.
    """
    given = {"sha256": sha256, "me": person.name}
    left = session.execute(text(_LEFT), given).all()
    if not left:
        session.execute(text(_NO_SECOND_LOOK), given)
        return
    others = {row.reviewer for row in left}
    if len(others) > 1 or person.name in others or any(row.kind == ReviewKind.APPEAL for row in left):
        return
    (other,) = others
    second_of = session.execute(text(_SECOND_OF), {"id": withdrawn}).scalar()
    if second_of == other or any(row.second_of == person.name for row in left):
        session.execute(text(_SECOND_LOOK), given | {"other": other})
