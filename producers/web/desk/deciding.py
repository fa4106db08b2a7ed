"""Stores a person's decision about a content, in one transaction that uses up the claim."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from producers.near import near_among
from producers.reviews import refusals_named
from producers.web.access.people import Person
from producers.web.desk.claims import CLAIM_ONE, held_by
from producers.web.desk.turns import is_mine, why_not
from producers.web.reasons import Reasons
from worker.database import Database, transaction
from worker.errors import ClaimLostError, GoneError, UsageError
from worker.tables import DeskRole, ReviewKind, Statement
from worker.texts import storable

MAX_NOTE = 10_000
"""The longest note, in characters."""
MAX_ALSO = 200
"""How many near duplicates can be decided at once."""


@dataclass(frozen=True)
class Shown:
    """What the person saw: the place in a scan, and the verdict there."""

    scan_id: UUID
    uri: str
    verdict_id: int


@dataclass(frozen=True)
class Decision:
    """What the person says. `also` are contents, by SHA-256, about which they say the same. Only near duplicates
    among them count.
    """

    statement: Statement
    reason_code: str | None = None
    note: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class SecondShare:
    """Chooses the contents that get a second look: those whose HMAC with the `secret` is below the `share`, from 0
    to 1.
    """

    secret: bytes
    share: float

    def draws(self, sha256: str) -> bool:
        """Returns whether this content gets a second look. The answer is always the same, and nobody without the
        secret can predict it.
        """
        drawn = int.from_bytes(hmac.digest(self.secret, sha256.encode(), "sha256")[:8])
        return drawn < self.share * 2**64


@dataclass(frozen=True)
class Decided:
    """What was stored. `left_out` are those of `also` that are not near duplicates, do not wait for this person, or
    belong to somebody else now.
    """

    review_id: int
    sha256: str
    statement: Statement
    kind: ReviewKind
    decided_at: datetime
    second_look: bool
    also: tuple[str, ...]
    left_out: tuple[str, ...]


# The lock of review_checked(), taken before any row. If several contents are decided, they are locked in the same order
# as workers lock them.
LOCK_CONTENTS = """
SELECT pg_advisory_xact_lock(1380275785, key)
FROM (SELECT DISTINCT hashtext(one) & 4095 AS key FROM unnest(CAST(:contents AS text[])) one ORDER BY 1) AS ordered
"""
_USE_CLAIM = "DELETE FROM claims WHERE id = :claim_id AND sha256 = :sha256 AND reviewer = :me RETURNING sha256"
_END_CLAIM = "DELETE FROM claims WHERE sha256 = :sha256 AND reviewer = :me"
_DISPUTED = "SELECT FROM review_status WHERE sha256 = :sha256 AND disputed"
_NEWEST = """
SELECT scan_id, uri, verdict_id FROM contents WHERE sha256 = :sha256 AND verdict <> 'real' AND NOT superseded
"""
_STATE = """
INSERT INTO reviews (scan_id, uri, sha256, verdict_id, statement, kind, reason_code, note, reviewer, claim_id)
VALUES (:scan_id, :uri, :sha256, :verdict_id, :statement, :kind, :reason_code, :note, :me, :claim_id)
RETURNING id, sha256, statement, kind, created_at
"""
_STATED = """
SELECT r.id, r.sha256, r.statement, r.kind, r.created_at FROM reviews r
WHERE r.claim_id = :claim_id AND r.reviewer = :me
  AND NOT EXISTS (SELECT FROM withdrawals w WHERE w.review_id = r.id)
ORDER BY r.id
"""
# There may already be one: the person said this before, took it back, and somebody was looking by then.
_WANT_SECOND_LOOK = """
INSERT INTO second_looks (sha256, first_reviewer) VALUES (:sha256, :me) ON CONFLICT (sha256) DO NOTHING
"""
_LAST_REVIEWER = "SELECT last_reviewer FROM review_status WHERE sha256 = :sha256"


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
    """Stores the person's decision about the content that they have claimed. Repeating the request changes nothing
    more.

    An expired claim still counts, as long as nobody else has taken the content.

    Raises ClaimLostError, GoneError, UsageError (for a reason code that is not in `reasons`), and the errors of
    producers.reviews.review.
    """
    _check(decision, reasons)
    others = tuple(dict.fromkeys(one for one in decision.also if one != sha256))
    desk = _Desk(person, claim_id, decision, chance)
    with refusals_named(), transaction(database) as session:
        session.execute(text(LOCK_CONTENTS), {"contents": [sha256, *others]})
        given = {"claim_id": claim_id, "sha256": sha256, "me": person.name}
        if session.execute(text(_USE_CLAIM), given).first() is None:
            return desk.before(session, sha256, others)
        if not is_mine(session, person, sha256):
            raise GoneError(why_not(session, person, sha256))
        first = desk.state(session, sha256, shown, decision.note)
        near = near_among(session, sha256, others)
        also = [one for one in others if one in near and desk.follow(session, one, sha256)]
        return desk.decided([first, *({"sha256": one} for one in also)], others)


def _check(decision: Decision, reasons: Reasons) -> None:
    code = decision.reason_code
    if code is not None and code not in {reason.code for reason in reasons.for_statement(decision.statement)}:
        said = str(decision.statement).replace("_", " ")
        raise UsageError(f"the reason “{reasons.text_of(code)}” does not fit “{said}”: choose another one, or none")
    if len(decision.note or "") > MAX_NOTE:
        raise UsageError(f"a note has at most {MAX_NOTE} characters")
    if len(decision.also) > MAX_ALSO:
        raise UsageError(f"at most {MAX_ALSO} near duplicates are decided at once")


@dataclass(frozen=True)
class _Desk:
    """A decision in its transaction."""

    person: Person
    claim_id: UUID
    decision: Decision
    chance: SecondShare

    def state(self, session: Session, sha256: str, shown: Shown, note: str | None) -> Any:
        """Stores a review, and whether the content gets a second look."""
        mine = {"sha256": sha256, "me": self.person.name}
        appeal = self.person.may(DeskRole.LEAD) and session.execute(text(_DISPUTED), mine).first() is not None
        code = self.decision.reason_code
        row = session.execute(
            text(_STATE),
            mine
            | {"scan_id": shown.scan_id, "uri": shown.uri, "verdict_id": shown.verdict_id, "claim_id": self.claim_id}
            | {"statement": self.decision.statement, "kind": ReviewKind.APPEAL if appeal else None}
            | {"reason_code": code and storable(code), "note": storable(note) if note else None},
        ).one()
        if self._looked_at_again(row):
            session.execute(text(_WANT_SECOND_LOOK), mine)
        return row

    def follow(self, session: Session, sha256: str, leader: str) -> bool:
        """Makes the same decision for a near duplicate, if it waits for this person and nobody else works on it."""
        mine = {"sha256": sha256, "me": self.person.name}
        if not is_mine(session, self.person, sha256):
            return False
        if session.execute(text(CLAIM_ONE), mine | {"claim_s": 60}).first() is None:
            return False
        session.execute(text(_END_CLAIM), mine)
        shown = Shown(*session.execute(text(_NEWEST), mine).one())
        note = f"decided with its near duplicate {leader}"
        self.state(session, sha256, shown, f"{note}: {self.decision.note}" if self.decision.note else note)
        return True

    def before(self, session: Session, sha256: str, others: Iterable[str]) -> Decided:
        """Returns what this person decided under this claim before. Raises ClaimLostError."""
        given = {"claim_id": self.claim_id, "me": self.person.name, "sha256": sha256}
        rows = session.execute(text(_STATED), given).all()
        if rows and rows[0].sha256 == sha256:
            return self.decided(rows, others)
        if (held := held_by(session, sha256)) is not None and held.reviewer != self.person.name:
            raise ClaimLostError(f"your claim ran out, and {held.reviewer} works on it now", holder=held.reviewer)
        by = session.execute(text(_LAST_REVIEWER), given).scalar()
        if by is not None:
            raise ClaimLostError(f"your claim ran out, and {by} has decided it", decided_by=by)
        raise ClaimLostError("your claim ran out: claim the content again")

    def decided(self, rows: Any, others: Iterable[str]) -> Decided:
        """Returns the answer for these reviews. The first one is that of the content itself."""
        first = rows[0]
        also = tuple(row["sha256"] if isinstance(row, dict) else row.sha256 for row in rows[1:])
        return Decided(
            first.id,
            first.sha256,
            Statement(first.statement),
            ReviewKind(first.kind),
            first.created_at,
            self._looked_at_again(first),
            also,
            tuple(one for one in others if one not in also),
        )

    def _looked_at_again(self, row: Any) -> bool:
        return row.kind == ReviewKind.FIRST and self.chance.draws(row.sha256)
