"""Takes messages from the outbox, and records what came of them.

A sender that takes a message moves its `due_at` LEASE_S into the future. If the sender dies, the message is sent again
after that time. So a message is sent at least once, unless all ten attempts fail. One sender sends it at a time.

If several messages with one subject wait, only the first is sent. The others sleep until it is due, and for a lease at
least. When it has ended, the next one is woken and comes before all that sleep. So a turn does not look at all of them.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlmodel import Session

from producers.webhooks.posting import TIMEOUT_S, Answer, Endpoint, Message
from worker.database import Database, transaction
from worker.tables import MessageState

BATCH = 32
"""How many messages of an endpoint a sender looks at in a turn."""
LEASE_S = 3 * TIMEOUT_S
DELAYS_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The waits between ten attempts, 75 hours in all: the example schedule of the Standard Webhooks specification."""
ATTEMPTS = len(DELAYS_S) + 1
"""How often a message is sent before it is dead."""
JITTER = 0.2
"""A wait is this share longer or shorter, by chance, so that messages that failed together do not come together."""

_DUE = """
SELECT e.id FROM webhook_endpoints e
WHERE e.disabled_at IS NULL AND EXISTS (
    SELECT FROM outbox o WHERE o.endpoint_id = e.id AND o.state = 'waiting' AND o.due_at <= now())
"""
# A message whose last attempt has no recorded end is dead: perhaps it kills each sender that takes it.
# Another sender may have woken a message after this statement began, so that it still sees the one before: that message
# must not sleep for long.
_CLAIM = text("""
WITH seen AS MATERIALIZED (
    SELECT o.id, o.subject, o.attempts, o.due_at = 'epoch' AS woken FROM outbox o
    WHERE o.endpoint_id = :endpoint_id AND o.state = 'waiting' AND o.due_at <= now()
    ORDER BY o.due_at, o.id
    LIMIT :batch
    FOR UPDATE SKIP LOCKED
), placed AS (
    SELECT s.id, s.woken, f.due_at,
           s.id = f.id AND s.attempts < :most AS taken, s.id = f.id AND s.attempts >= :most AS lost
    FROM seen s CROSS JOIN LATERAL (
        SELECT o.id, o.due_at FROM outbox o
        WHERE o.endpoint_id = :endpoint_id AND o.subject = s.subject AND o.state = 'waiting'
        ORDER BY o.id LIMIT 1
    ) f
)
UPDATE outbox o
SET attempts = o.attempts + p.taken::int,
    state = CASE WHEN p.lost THEN 'dead' ELSE o.state END,
    ended_at = CASE WHEN p.lost THEN now() END,
    answer = CASE WHEN p.lost THEN 'no sender could record the end of the last attempt' ELSE o.answer END,
    due_at = CASE WHEN p.taken THEN now() + make_interval(secs => :lease_s)
                  WHEN p.woken THEN now() + interval '1 second'
                  ELSE greatest(p.due_at, now() + make_interval(secs => :lease_s)) END
FROM placed p
WHERE o.id = p.id
RETURNING p.taken, o.id, o.message_id, o.kind, o.subject, o.data, o.created_at, o.attempts
""")
# A sender that was stopped for longer than its lease must not undo what another one has recorded since.
_RECORD = text("""
UPDATE outbox
SET state = :state, answer = :answer, ended_at = CASE WHEN :state <> 'waiting' THEN now() END,
    due_at = now() + make_interval(secs => :delay_s)
WHERE id = :id AND state = 'waiting' AND (attempts = :attempts OR :state = 'delivered')
""")
_WAKE = text("""
UPDATE outbox SET due_at = 'epoch'
WHERE id = (SELECT id FROM outbox WHERE endpoint_id = :endpoint_id AND subject = :subject AND state = 'waiting'
            ORDER BY id LIMIT 1)
  AND attempts = 0
""")
_DISABLE = text("UPDATE webhook_endpoints SET disabled_at = now() WHERE id = :endpoint_id")
_END_DISABLED = text("""
UPDATE outbox o SET state = 'dead', ended_at = now(), answer = 'the endpoint answered 410 Gone to another message'
FROM webhook_endpoints e
WHERE e.disabled_at IS NOT NULL AND o.endpoint_id = e.id AND o.state = 'waiting'
""")
_DELETE_OLD = text("""
DELETE FROM outbox WHERE id IN (
    SELECT id FROM outbox WHERE state <> 'waiting' AND ended_at < now() - make_interval(days => :days)
    ORDER BY ended_at LIMIT 10000)
""")


@dataclass(frozen=True)
class Batch:
    """What a sender took from an endpoint. `seen`: it looked at messages, so there may be more."""

    endpoint: Endpoint
    messages: Sequence[Message]
    seen: bool


def endpoints_due(database: Database) -> list[int]:
    """Returns the ids of endpoints that have a message to be sent now."""
    with transaction(database) as session:
        return list(session.execute(text(_DUE)).scalars())


def claim(database: Database, endpoint_id: int, *, lease_s: float = LEASE_S, batch: int = BATCH) -> Batch | None:
    """Takes messages of an endpoint, each the first of its subject. Returns None if the endpoint is gone or disabled.

    Nobody else takes them for `lease_s` seconds.
    """
    with transaction(database) as session:
        named = text("SELECT name, url, secret FROM webhook_endpoints WHERE id = :id AND disabled_at IS NULL")
        endpoint = session.execute(named, {"id": endpoint_id}).one_or_none()
        if endpoint is None:
            return None
        given = {"endpoint_id": endpoint_id, "batch": batch, "lease_s": lease_s, "most": ATTEMPTS}
        rows = session.execute(_CLAIM, given).all()
    taken = [Message(*row[1:]) for row in rows if row.taken]
    return Batch(Endpoint(*endpoint), taken, seen=bool(rows))


def record(database: Database, endpoint_id: int, ends: Sequence[tuple[Message, Answer]]) -> list[MessageState]:
    """Records what came of messages, and returns their states. Wakes the next message of each subject that ended."""
    states = [_state(message, answer) for message, answer in ends]
    with transaction(database) as session:
        for (message, answer), state in sorted(zip(ends, states, strict=True), key=lambda one: one[0][0].id):
            _record_one(session, endpoint_id, message, answer, state)
        if any(answer.gone for _, answer in ends):
            session.execute(_DISABLE, {"endpoint_id": endpoint_id})
            session.execute(_END_DISABLED)
    return states


def _record_one(session: Session, endpoint_id: int, message: Message, answer: Answer, state: MessageState) -> None:
    row: dict[str, Any] = {"id": message.id, "attempts": message.attempts, "state": state, "answer": answer.said}
    session.execute(_RECORD, {**row, "delay_s": delay_s(message.attempts, answer)})
    if state != MessageState.WAITING:
        session.execute(_WAKE, {"endpoint_id": endpoint_id, "subject": message.subject})


def _state(message: Message, answer: Answer) -> MessageState:
    if answer.delivered:
        return MessageState.DELIVERED
    return MessageState.DEAD if answer.gone or message.attempts >= ATTEMPTS else MessageState.WAITING


def delay_s(attempts: int, answer: Answer) -> float:
    """Returns the seconds until the next attempt, after so many failed ones. A Retry-After may make it longer."""
    planned = DELAYS_S[min(attempts, len(DELAYS_S)) - 1]
    return max(planned * random.uniform(1 - JITTER, 1 + JITTER), answer.retry_after_s)  # noqa: S311 - no secret


def end_disabled(database: Database) -> None:
    """Ends messages of disabled endpoints: a transaction may have written one before it saw that the endpoint is."""
    with transaction(database) as session:
        session.execute(_END_DISABLED)


def delete_old(database: Database, days: int) -> Iterator[int]:
    """Deletes messages that were delivered or died more than `days` ago, 10,000 at a time. Yields each number."""
    while True:
        with transaction(database) as session:
            deleted = session.execute(_DELETE_OLD, {"days": days}).rowcount  # type: ignore[attr-defined]
        if not deleted:
            return
        yield deleted
