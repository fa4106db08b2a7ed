"""Records what no trigger sees, and lists events. Migration 0015 has the triggers."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Text, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Session, col

from worker.tables import Event, EventKind


def record(
    session: Session,
    kind: EventKind,
    *,
    scan_id: UUID | None = None,
    subject: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> int:
    """Records an event in this transaction, and returns its id. Postgres fills in the time, the actor and the login.

    `details` must be JSON, and must hold nothing that points to a person: events are never deleted. Postgres refuses
    kinds that are not in worker.tables.RECORDED, and some of them to all but the owner of the tables.
    """
    given = bindparam("details", dict(details) if details is not None else None, type_=JSONB(none_as_null=True))
    added = func.record_event(cast(kind.value, Text), scan_id, subject, given)
    return int(session.execute(select(added)).scalar_one())


def events(
    session: Session,
    *,
    scan_id: UUID | None = None,
    since: datetime | None = None,
    kinds: tuple[str, ...] = (),
    limit: int | None = None,
) -> list[Event]:
    """Returns the newest events that match, the oldest first."""
    query = select(Event).order_by(col(Event.id).desc()).limit(limit)
    if scan_id is not None:
        query = query.where(col(Event.scan_id) == scan_id)
    if since is not None:
        query = query.where(col(Event.at) >= since)
    if kinds:
        query = query.where(col(Event.kind).in_(kinds))
    return list(session.execute(query).scalars())[::-1]
