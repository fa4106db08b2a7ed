"""Who works on what: a content is one person's for a while, and nobody else's.

A claim is a row whose key is the content. It is taken by one statement, which takes nothing from a claim that still
holds. So no content is two people's, whatever they do at the same moment.
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
"""First key of advisory locks ("CLAI" in ASCII): the second is a content, or a person, who claims one at a time."""

TRIES = 10
"""How often a person's next content is looked for while others take what was found."""
PAUSE_S = 0.02
"""The longest pause after the first try; it grows by as much with each."""


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


_TAKE = """
INSERT INTO claims (sha256, id, reviewer, since, until)
{chosen}
ON CONFLICT (sha256) DO UPDATE
SET id = excluded.id, reviewer = excluded.reviewer, since = excluded.since, until = excluded.until
WHERE claims.until <= now() OR claims.reviewer = excluded.reviewer
RETURNING id, sha256, until
"""
_NEW_CLAIM = "gen_random_uuid(), :me, now(), now() + make_interval(secs => :claim_s)"

# Who finds a candidate's lock taken leaves it to the one who is claiming it at this moment, and takes the next. The
# lock only saves waiting. What keeps two people apart is the key of `claims`.
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
# When nothing else waits: what was skipped first.
_SKIPPED = f"""skips s CROSS JOIN LATERAL (
    SELECT * FROM contents c WHERE c.sha256 = s.sha256 AND {MINE}{{fits}} OFFSET 0
) c WHERE s.reviewer = :me AND s.until > now()"""  # noqa: S608 - constants of the desk

ONE_PERSON = f"SELECT pg_advisory_xact_lock({_CLASS}, hashtext('person ' || :me))"
"""A person's claims and withdrawals take turns."""
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
"""Takes `:sha256` for `:me`, unless somebody else holds it; its row then."""
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
# And claims of before that nobody has ended.
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
    """Claims what waits longest or is worst for this person; None when nothing waits for them.

    Who holds a claim whose content still waits and fits the filters gets that one again, with a new `until`.

    Raises FasterError where others were faster each time.
    """
    given = {**values_of(person), **filters.values(), "claim_s": claim_s}
    for number in range(1, TRIES + 1):
        with suppress(FasterError), transaction(database) as session:
            session.execute(text(ONE_PERSON), given)
            return _held(session, filters, given) or _first(session, person, filters, given)
        # Each time, another person has got a content. Those who wait go on at different moments.
        time.sleep(random.uniform(0, PAUSE_S * number))  # noqa: S311 - no secret
    raise FasterError("other people got each content that was to be yours")


def _held(session: Session, filters: Filters, given: dict[str, Any]) -> Claimed | None:
    row = session.execute(text(_GO_ON.format(filters=filters.sql())), given).one_or_none()
    return Claimed(*row) if row else None


def _first(session: Session, person: Person, filters: Filters, given: dict[str, Any]) -> Claimed | None:
    """The first content of the first part of the queue that has one. Raises FasterError."""
    fits = filters.sql() + _NOT_TAKEN
    sources = [(section.source(fits + _NOT_SKIPPED, "32"), ORDER) for section in sections(person)]
    for source, order in [*sources, (_SKIPPED.format(fits=fits), "s.until")]:
        query = _CLAIM_NEXT.format(source=source, order=order)
        row = session.execute(text(query), given).one()
        if row.sha256 is not None:
            # The statement may not have seen that somebody decided the content while it ran.
            if not is_mine(session, person, row.sha256):
                raise FasterError
            return Claimed(row.id, row.sha256, row.until)
        if row.found:
            raise FasterError
    return None


def claim(database: Database, person: Person, sha256: str, claim_s: float) -> Claimed | Held:
    """Claims this content, or says who holds it. Who holds it already keeps their claim. Raises NotWaitingError."""
    with transaction(database) as session:
        return take(session, person, sha256, claim_s)


def take(session: Session, person: Person, sha256: str, claim_s: float) -> Claimed | Held:
    """As `claim`, in a transaction that is there already."""
    given = {**values_of(person), "sha256": sha256, "claim_s": claim_s}
    session.execute(text(ONE_PERSON), given)
    while True:
        taken = (
            session.execute(text(_KEEP_CONTENT), given).one_or_none()
            or session.execute(text(CLAIM_ONE), given).one_or_none()
        )
        # Only now: a statement that begins after the claim sees what anybody has decided before it.
        if not is_mine(session, person, sha256):
            raise NotWaitingError(why_not(session, person, sha256))
        if taken is not None:
            return Claimed(*taken)
        if (held := held_by(session, sha256)) is not None:
            return held


def keep(database: Database, person: Person, claim_id: UUID, claim_s: float) -> datetime | None:
    """Makes a claim hold on: until when. None when it is lost. One that ran out and that nobody took holds again."""
    with transaction(database) as session:
        given = {"me": person.name, "id": claim_id, "claim_s": claim_s}
        until: datetime | None = session.execute(text(_KEEP), given).scalar_one_or_none()
    return until


def skip(database: Database, person: Person, sha256: str) -> None:
    """Gives it back, and not to this person again for an hour, unless nothing else waits."""
    given = {"me": person.name, "sha256": sha256}
    with transaction(database) as session:
        for statement in (_GIVE_BACK, _FORGET_SKIPS, _SKIP):
            session.execute(text(statement), given)


def holder(database: Database, sha256: str) -> Held | None:
    """Who works on this content now."""
    with transaction(database) as session:
        return held_by(session, sha256)


def held_by(session: Session, sha256: str) -> Held | None:
    """As `holder`, in a transaction that is there already."""
    row = session.execute(text(_HOLDER), {"sha256": sha256}).first()
    return Held(*row) if row else None


def own(database: Database, person: Person, sha256: str) -> Claimed | None:
    """This person's claim on this content, where they hold one."""
    query = "SELECT id, sha256, until FROM claims WHERE sha256 = :sha256 AND reviewer = :me AND until > now()"
    with transaction(database) as session:
        row = session.execute(text(query), {"sha256": sha256, "me": person.name}).one_or_none()
    return Claimed(*row) if row else None
