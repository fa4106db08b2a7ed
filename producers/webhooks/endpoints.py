"""Adds, lists and removes endpoints, and looks after their messages for the command line."""

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from producers.webhooks.addresses import place_of
from producers.webhooks.posting import Endpoint
from worker.database import Database, transaction
from worker.errors import NoSuchEndpointError, UsageError
from worker.tables import MessageState, OutboxMessage, WebhookEndpoint, WebhookKind

PREFIX = "whsec_"
SECRET_BYTES = 32
"""The Standard Webhooks specification asks for 24 to 64 random bytes."""
MAX_NAME = 100

_MESSAGE = OutboxMessage
_DEAD = col(_MESSAGE.state) == MessageState.DEAD


def add_endpoint(database: Database, name: str, url: str, kinds: Sequence[WebhookKind]) -> str:
    """Adds an endpoint and returns its secret. Raises UsageError."""
    if name != name.strip() or not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise UsageError(f"an endpoint's name has 1 to {MAX_NAME} printable characters, and no space at its ends")
    place_of(url)
    secret = PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    values = {"name": name, "url": url, "kinds": [kind.value for kind in WebhookKind if kind in kinds]}
    new = insert(WebhookEndpoint).values(**values, secret=secret).on_conflict_do_nothing(index_elements=["name"])
    with transaction(database) as session:
        if session.execute(new.returning(col(WebhookEndpoint.id))).scalar() is None:
            raise UsageError(f"there is an endpoint {name}: remove it first, or take another name")
    return secret


def endpoints(database: Database) -> list[dict[str, Any]]:
    """Returns all endpoints by name, without their secrets, with how many of their messages wait and are dead."""
    counts = [_count(state).label(state.value) for state in (MessageState.WAITING, MessageState.DEAD)]
    shown = [getattr(WebhookEndpoint, one) for one in ("name", "url", "kinds", "created_at", "disabled_at")]
    query = select(*shown, *counts).order_by(col(WebhookEndpoint.name))
    with transaction(database) as session:
        return [dict(row) for row in session.execute(query).mappings()]


def _count(state: MessageState) -> ScalarSelect[int]:
    mine = (col(_MESSAGE.endpoint_id) == col(WebhookEndpoint.id), col(_MESSAGE.state) == state)
    return select(func.count()).select_from(_MESSAGE).where(*mine).correlate(WebhookEndpoint).scalar_subquery()


def find_endpoint(database: Database, name: str) -> tuple[int, Endpoint]:
    """Returns the id of an endpoint, and what sending to it needs. Raises NoSuchEndpointError."""
    query = select(WebhookEndpoint).where(col(WebhookEndpoint.name) == name)
    with transaction(database) as session:
        found = session.execute(query).scalar()
    if found is None or found.id is None:
        raise NoSuchEndpointError(f"there is no endpoint {name}; fakesweep webhooks list names them")
    return found.id, Endpoint(found.name, found.url, found.secret)


def waiting(database: Database, endpoint_id: int) -> int:
    """Returns how many messages of an endpoint wait to be sent."""
    mine = (col(_MESSAGE.endpoint_id) == endpoint_id, col(_MESSAGE.state) == MessageState.WAITING)
    with transaction(database) as session:
        return int(session.execute(select(func.count()).select_from(_MESSAGE).where(*mine)).scalar_one())


def remove_endpoint(database: Database, endpoint_id: int) -> None:
    """Removes an endpoint and all its messages."""
    with transaction(database) as session:
        session.execute(delete(WebhookEndpoint).where(col(WebhookEndpoint.id) == endpoint_id))


def dead_messages(database: Database, endpoint_id: int | None, limit: int) -> list[dict[str, Any]]:
    """Returns dead messages, the newest first: of an endpoint, or of all."""
    shown = [getattr(_MESSAGE, one) for one in ("message_id", "kind", "subject", "created_at", "attempts", "answer")]
    query = select(col(WebhookEndpoint.name).label("endpoint"), *shown).join(
        WebhookEndpoint, col(WebhookEndpoint.id) == col(_MESSAGE.endpoint_id)
    )
    mine = [col(_MESSAGE.endpoint_id) == endpoint_id] if endpoint_id is not None else []
    newest = query.where(_DEAD, *mine).order_by(col(_MESSAGE.id).desc()).limit(limit)
    with transaction(database) as session:
        return [dict(row) for row in session.execute(newest).mappings()]


def replay(database: Database, endpoint_id: int, *, message: UUID | None, since: datetime | None) -> int:
    """Sends messages again, now and with all their attempts. Returns how many. Enables the endpoint.

    Without `message` and `since`, it takes the dead ones, and those that wait for their next attempt. With `since`, it
    also takes those of that time and later that were delivered. With `message`, it takes that one alone.
    Raises UsageError if the endpoint has no such message.
    """
    taken: ColumnElement[bool] = _DEAD | (col(_MESSAGE.state) == MessageState.WAITING)
    if message is not None:
        taken = col(_MESSAGE.message_id) == message
    elif since is not None:
        taken = or_(taken, col(_MESSAGE.created_at) >= since)
    again = {"state": MessageState.WAITING, "ended_at": None, "attempts": 0, "due_at": func.now()}
    changed = update(_MESSAGE).where(col(_MESSAGE.endpoint_id) == endpoint_id, taken).values(again)
    enabled = update(WebhookEndpoint).where(
        col(WebhookEndpoint.id) == endpoint_id, col(WebhookEndpoint.disabled_at).is_not(None)
    )
    with transaction(database) as session:
        replayed = session.execute(changed).rowcount  # type: ignore[attr-defined]
        if message is not None and not replayed:
            raise UsageError(
                f"--message {message}: this endpoint has no such message; fakesweep webhooks dead lists ids"
            )
        session.execute(enabled.values(disabled_at=None))
    return int(replayed)
