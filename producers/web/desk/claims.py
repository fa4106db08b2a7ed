"""Claims: for a while, a content belongs to one person and to nobody else.

A claim is a row whose key is the content. One statement takes it, and never from a claim that is still valid. So a
content never belongs to two people, whatever they do at the same moment.
"""

import random
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from producers.web.access.people import Person
from producers.web.desk.turns import MINE, ORDER, Filters, is_mine, sections, values_of, why_not
from worker.database import Database, transaction
from worker.errors import FasterError, NotWaitingError

_CLASS = 0x434C4149
"""First key of the advisory locks ("CLAI" in ASCII). The second key is a content, or a person, so that each person
claims one content at a time.
"""

TRIES = 10
"""How often we look for a person's next content while others take the ones that were found."""
PAUSE_S = 0.02
"""The longest pause after the first attempt. It grows by the same amount with each attempt."""


@dataclass(frozen=True)
class Claimed:
    """A content that belongs to the person until `until`. They can keep it longer."""

    id: UUID
    sha256: str
    until: datetime


@dataclass(frozen=True)
class Held:
    """A content that somebody else works on."""

    reviewer: str
    until: datetime


_TAKE = """
INSERT INTO claims (sha256, id, reviewer, since, until)
{chosen}
ON CONFLICT (sha256) DO UPDATE
SET id = excluded.id, reviewer = excluded.reviewer, since = excluded.since, until = excluded.until
WHERE claims.until <= now() OR claims.reviewer = excluded.reviewer
RETURNING id, sha256, until
"""
_NEW_CLAIM = "gen_random_uuid(), :me, now(), now() + make_interval(secs => :claim_s)"

# If a candidate's lock is taken, somebody is claiming it at this moment. So the next candidate is taken instead. The
# locks only save waiting. The key of `claims` is what keeps two people apart.
_CLAIM_NEXT = f"""
WITH candidates AS MATERIALIZED (
    SELECT c.sha256 FROM {{source}} ORDER BY {{order}} LIMIT 32
), free AS MATERIALIZED (
    SELECT sha256 FROM candidates WHERE pg_try_advisory_xact_lock({_CLASS}, hashtext(sha256)) LIMIT 1
), taken AS (
{_TAKE.format(chosen=f"SELECT sha256, {_NEW_CLAIM} FROM free")}
)
SELECT EXISTS (SELECT FROM candidates) AS found, taken.* FROM (SELECT) AS one LEFT JOIN taken ON true
"""  # noqa: S608 - constants of this file
_NOT_TAKEN = (
    " AND NOT EXISTS (SELECT FROM claims k WHERE k.sha256 = c.sha256 AND k.until > now() AND k.reviewer <> :me)"
)
_NOT_SKIPPED = (
    " AND NOT EXISTS (SELECT FROM skips s WHERE s.reviewer = :me AND s.sha256 = c.sha256 AND s.until > now())"
)
# If nothing else waits, the content that was skipped first.
_SKIPPED = f"""skips s CROSS JOIN LATERAL (
    SELECT * FROM contents c WHERE c.sha256 = s.sha256 AND {MINE}{{fits}} OFFSET 0
) c WHERE s.reviewer = :me AND s.until > now()"""  # noqa: S608 - constants of the desk

ONE_PERSON = f"SELECT pg_advisory_xact_lock({_CLASS}, hashtext('person ' || :me))"
"""Makes a person's claims and withdrawals happen one at a time."""
_GO_ON = f"""
UPDATE claims SET until = now() + make_interval(secs => :claim_s)
WHERE id = (
    SELECT k.id FROM claims k
    WHERE k.reviewer = :me AND k.until > now()
      AND EXISTS (SELECT FROM contents c WHERE c.sha256 = k.sha256 AND {MINE}{{filters}} OFFSET 0)
    ORDER BY k.since LIMIT 1
)
RETURNING id, sha256, until
"""  # noqa: S608 - constants of the desk
CLAIM_ONE = _TAKE.format(chosen=f"SELECT CAST(:sha256 AS text), {_NEW_CLAIM}")
"""Takes `:sha256` for `:me` and returns its row, unless somebody else holds it."""
_KEEP = """
UPDATE claims SET until = greatest(until, now() + make_interval(secs => :claim_s))
WHERE id = :id AND reviewer = :me
RETURNING until
"""
_KEEP_CONTENT = """
UPDATE claims SET until = greatest(until, now() + make_interval(secs => :claim_s))
WHERE sha256 = :sha256 AND reviewer = :me AND until > now()
RETURNING id, sha256, until
"""
# Also deletes old claims that nobody has ended.
_GIVE_BACK = """
DELETE FROM claims WHERE reviewer = :me AND (sha256 = :sha256 OR until < now() - interval '1 day')
"""
_SKIP = """
INSERT INTO skips (reviewer, sha256, until) VALUES (:me, :sha256, now() + interval '1 hour')
ON CONFLICT (reviewer, sha256) DO UPDATE SET until = excluded.until
"""
_FORGET_SKIPS = "DELETE FROM skips WHERE reviewer = :me AND until < now()"
_HOLDER = "SELECT reviewer, until FROM claims WHERE sha256 = :sha256 AND until > now()"


def next_content(database: Database, person: Person, filters: Filters, claim_s: float) -> Claimed | None:
    """Claims the next content for this person: the most severe, and of these the oldest. Returns None if nothing waits
    for them.

    If the person holds a claim whose content still waits and matches the filters, they get that one again, with a new
    `until`.

    Raises FasterError if others were faster each time.
    """
    given = {**values_of(person), **filters.values(), "claim_s": claim_s}
    for number in range(1, TRIES + 1):
        with suppress(FasterError), transaction(database) as session:
            session.execute(text(ONE_PERSON), given)
            return _held(session, filters, given) or _first(session, person, filters, given)
        # Each time, somebody else got a content. The random pause keeps those who wait from trying at the same moment.
        time.sleep(random.uniform(0, PAUSE_S * number))  # noqa: S311 - no secret
    raise FasterError("other people were faster each time")


def _held(session: Session, filters: Filters, given: dict[str, Any]) -> Claimed | None:
    row = session.execute(text(_GO_ON.format(filters=filters.sql())), given).one_or_none()
    return Claimed(*row) if row else None


def _first(session: Session, person: Person, filters: Filters, given: dict[str, Any]) -> Claimed | None:
    """Returns the first content of the first section of the queue that has one. Raises FasterError."""
    fits = filters.sql() + _NOT_TAKEN
    sources = [(section.source(fits + _NOT_SKIPPED, "32"), ORDER) for section in sections(person)]
    for source, order in [*sources, (_SKIPPED.format(fits=fits), "s.until")]:
        query = _CLAIM_NEXT.format(source=source, order=order)
        row = session.execute(text(query), given).one()
        if row.sha256 is not None:
            # Somebody may have decided the content while the statement ran, and the statement does not see that.
            if not is_mine(session, person, row.sha256):
                raise FasterError
            return Claimed(row.id, row.sha256, row.until)
        if row.found:
            raise FasterError
    return None


def claim(database: Database, person: Person, sha256: str, claim_s: float) -> Claimed | Held:
    """Claims this content, or says who holds it. A person who holds it already keeps their claim. Raises
    NotWaitingError.
    """
    with transaction(database) as session:
        return take(session, person, sha256, claim_s)


def take(session: Session, person: Person, sha256: str, claim_s: float) -> Claimed | Held:
    """The same as `claim`, in an open transaction."""
    given = {**values_of(person), "sha256": sha256, "claim_s": claim_s}
    session.execute(text(ONE_PERSON), given)
    while True:
        taken = (
            session.execute(text(_KEEP_CONTENT), given).one_or_none()
            or session.execute(text(CLAIM_ONE), given).one_or_none()
        )
        # Checked only now: a statement that begins after the claim sees every earlier decision.
        if not is_mine(session, person, sha256):
            raise NotWaitingError(why_not(session, person, sha256))
        if taken is not None:
            return Claimed(*taken)
        if (held := held_by(session, sha256)) is not None:
            return held


def keep(database: Database, person: Person, claim_id: UUID, claim_s: float) -> datetime | None:
    """Extends a claim and returns its new end. Returns None if the claim is lost. An expired claim that nobody else
    took becomes valid again.
    """
    with transaction(database) as session:
        given = {"me": person.name, "id": claim_id, "claim_s": claim_s}
        until: datetime | None = session.execute(text(_KEEP), given).scalar_one_or_none()
    return until


def skip(database: Database, person: Person, sha256: str) -> None:
    """Gives a content back. This person does not get it again for an hour, unless nothing else waits."""
    given = {"me": person.name, "sha256": sha256}
    with transaction(database) as session:
        for statement in (_GIVE_BACK, _FORGET_SKIPS, _SKIP):
            session.execute(text(statement), given)


def holder(database: Database, sha256: str) -> Held | None:
    """Returns who works on this content now."""
    with transaction(database) as session:
        return held_by(session, sha256)


def held_by(session: Session, sha256: str) -> Held | None:
    """The same as `holder`, in an open transaction."""
    row = session.execute(text(_HOLDER), {"sha256": sha256}).first()
    return Held(*row) if row else None


def own(database: Database, person: Person, sha256: str) -> Claimed | None:
    """Returns this person's claim on this content, if they hold one."""
    query = "SELECT id, sha256, until FROM claims WHERE sha256 = :sha256 AND reviewer = :me AND until > now()"
    with transaction(database) as session:
        row = session.execute(text(query), {"sha256": sha256, "me": person.name}).one_or_none()
    return Claimed(*row) if row else None
