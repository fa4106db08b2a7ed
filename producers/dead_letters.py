"""Reads the dead letters, publishes their messages again, or deletes them: `fakesweep dead`.

No broker can show the messages of a queue and leave them there. If we gave a message back, RabbitMQ would count that.
So we take each letter, publish a copy of it to the same queue, and then acknowledge it. If the command is killed, a
letter may be there twice. On RabbitMQ, no letter is lost. On Redis, the letter that was being taken may be lost.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from celery import Celery
from kombu.utils import json

from worker import broker
from worker.envelope import is_id
from worker.errors import InvalidMessageError
from worker.messages import DEAD_QUEUE, LIVE_QUEUE, SCAN_QUEUE, JudgeImages


class Act(StrEnum):
    """What to do with a letter."""

    KEEP = "keep"
    REPLAY = "replay"
    DISCARD = "discard"


@dataclass(frozen=True)
class DeadLetter:
    """A message that no worker could handle. Its texts are as they were received, and may be anything.

    `id` is made from the letter's bytes, so the same letter always has the same id. `at` is a time in ISO 8601. `queue`
    is where the message came from. Both are None if they are not known.
    """

    id: str
    reason: str
    message_id: str
    payload: Any
    queue: str | None
    at: str | None
    message: Any = field(repr=False)

    def job(self) -> JudgeImages:
        """Returns the message in the letter. Raises InvalidMessageError if no worker could handle it."""
        payload = self.payload
        if isinstance(payload, str):
            try:
                payload = json.loads(payload)
            except Exception as error:
                raise InvalidMessageError("the message is not JSON") from error
        if isinstance(payload, list) and payload and isinstance(payload[0], list):
            payload = payload[0]  # Celery's body: args, kwargs, options
        if isinstance(payload, list) and len(payload) == 1:
            payload = payload[0]
        return JudgeImages.parse(payload)

    def row(self) -> dict[str, Any]:
        """Returns the letter as it is printed in JSON."""
        return {name: getattr(self, name) for name in ("id", "at", "queue", "reason", "message_id", "payload")}


def look_through(app: Celery, act: Callable[[DeadLetter], Act]) -> list[DeadLetter]:
    """Calls `act` with each letter that is there now, and does what `act` returns. Returns the letters.

    If a message is replayed, its images that failed are judged again.
    Raises BrokerUnavailableError, and InvalidMessageError when a letter cannot be replayed.
    """
    letters: list[DeadLetter] = []
    with broker.unavailable(InvalidMessageError), app.connection_for_write() as connection:
        broker.declare_queues(connection)  # for every queue that a letter is replayed to: see broker.declare
        channel = connection.default_channel
        queue = broker.dead_queue()(channel)
        for _ in range(broker.dead_count(channel)):
            message = queue.get(no_ack=False)
            if message is None:
                break
            letter = read(message)
            letters.append(letter)
            wanted = act(letter)
            if wanted is Act.KEEP:
                _publish_copy(app, connection, message)
            elif wanted is Act.REPLAY:
                _replay(app, letter)
            message.ack()
    return letters


def _replay(app: Celery, letter: DeadLetter) -> None:
    # Its images may already have the outcome `failed`. With `again`, a new outcome replaces it.
    job = letter.job().model_copy(update={"attempt": 0, "again": True})
    queue = letter.queue if letter.queue in {LIVE_QUEUE, SCAN_QUEUE} else SCAN_QUEUE
    # The id of a submission is that of its message. With another id, nobody would find its verdicts.
    message_id = letter.message_id if is_id(letter.message_id) else None
    broker.publish(app, job, queue, message_id=message_id)


def _publish_copy(app: Celery, connection: Any, message: Any) -> None:
    app.amqp.Producer(connection, auto_declare=False).publish(
        message.body, exchange=broker.EXCHANGE, routing_key=DEAD_QUEUE, headers=message.headers,
        content_type=message.content_type or "application/json", content_encoding=message.content_encoding or "utf-8",
        delivery_mode=2, confirm_timeout=30,
    )  # fmt: skip


def read(message: Any) -> DeadLetter:
    """Returns the letter in a message of the dead queue. A worker wrote it, or RabbitMQ moved a message there."""
    body = message.body if isinstance(message.body, bytes) else bytes(message.body or "", "utf-8", "surrogatepass")
    letter_id, text = hashlib.sha256(body).hexdigest()[:12], body.decode(errors="backslashreplace")
    headers = message.headers or {}
    try:
        letter = json.loads(text)
    except Exception:  # noqa: BLE001 - anything may be in the queue
        letter = None
    if isinstance(letter, dict) and {"reason", "payload"} <= letter.keys():
        texts = [value if isinstance(value := letter.get(name), str) else None for name in ("queue", "at")]
        reason, message_id = str(letter["reason"]), str(letter.get("message_id") or "")
        return DeadLetter(letter_id, reason, message_id, letter["payload"], texts[0], texts[1], message)
    reason = f"RabbitMQ: {headers.get('x-first-death-reason', 'unknown')}"
    queue = headers.get("x-first-death-queue")
    return DeadLetter(letter_id, reason, str(headers.get("id") or ""), text, queue, None, message)
