"""The Celery task: it hands each message to worker.moderate, and tells the broker what to do with the message.

The message is acknowledged, published again, put back into its queue, or dead-lettered.
"""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import structlog
from celery import Celery, Task
from celery.exceptions import Reject

from worker import broker, telemetry
from worker.database.suspects import message_tried
from worker.envelope import DELIVERIES, REFUSED, SINCE
from worker.errors import (
    BrokerUnavailableError,
    DatabaseUnavailableError,
    EngineDeadError,
    FakesweepError,
    InvalidMessageError,
    MessageGivenUpError,
    ShuttingDownError,
)
from worker.lanes import queue_of
from worker.messages import DEAD_QUEUE, JUDGE_IMAGES, JudgeImages
from worker.metrics.declared import DEAD_LETTERS, IN_FLIGHT, RETRIED, WAIT
from worker.moderate import give_up, moderate
from worker.path import Parts

log = structlog.get_logger(__name__)

MAX_DELAY_S = 900


def register_tasks(
    app: Celery, parts: Mapping[str, Parts], *, retry_delay_s: int, on_engine_death: Callable[[EngineDeadError], None]
) -> Task:
    """Declares the task judge_images on the app. `parts` holds the parts for each queue, by its name.

    `on_engine_death` ends the process and does not return.
    """

    @app.task(name=JUDGE_IMAGES, bind=True, max_retries=None)  # type: ignore[untyped-decorator]  # Celery is not typed
    def judge_images(self: Task, payload: Any) -> None:
        info = self.request.delivery_info or {}
        delivered = _Delivered(
            payload,
            _message_id(self.request.id),
            queue_of(str(info.get("routing_key"))),
            came_back=bool(info.get("redelivered")),
            deliveries=self.request.get(DELIVERIES) or 0,
            refused=self.request.get(REFUSED),
        )
        own = parts[delivered.queue]
        with telemetry.bound(message_id=str(delivered.message_id), queue=delivered.queue):
            _measure_wait(own, delivered, self.request.get(SINCE))
            try:
                _take(app, own, delivered, retry_delay_s)
            except ShuttingDownError as error:
                raise _back(own, "shutting_down", error) from error
            except BrokerUnavailableError as error:
                # A dead letter or a retry could not be published, so the message goes back to its queue. It waits here
                # first, because RabbitMQ limits how often it redelivers a message.
                _pause(own, delivered.deliveries)
                raise _back(own, "broker_unavailable", error) from error
            except EngineDeadError as error:
                on_engine_death(error)

    return judge_images


def _measure_wait(parts: Parts, message: "_Delivered", since: float | None) -> None:
    """Measures how long the message waited in the queue. Not if it is redelivered: then it has been in a worker."""
    if since is not None and not message.came_back:
        parts.metrics.observe(WAIT, max(time.time() - since, 0.0))  # the clocks of two machines differ


def _back(parts: Parts, cause: str, error: FakesweepError) -> Reject:
    """Logs why the message goes back to its queue. Returns the exception with which Celery puts it there."""
    parts.metrics.count(RETRIED, cause=cause)
    log.warning("message_put_back", cause=cause, reason=str(error))
    return Reject(str(error), requeue=True)


def _pause(parts: Parts, deliveries: int) -> None:
    """Waits for a second, or up to a minute if the message was redelivered often. Ends early when the worker stops."""
    until = time.monotonic() + min(2.0 ** min(deliveries, 6), 60)
    with suppress(ShuttingDownError):
        while time.monotonic() < until:
            parts.files.check()
            time.sleep(0.5)


@dataclass(frozen=True)
class _Delivered:
    """A message as the broker delivered it.

    `came_back`: it is redelivered. `deliveries`: how often it was redelivered, which only RabbitMQ counts.
    `refused` says why the message must not be moderated.
    """

    payload: Any
    message_id: UUID
    queue: str
    came_back: bool
    deliveries: int
    refused: str | None


def _take(app: Celery, parts: Parts, message: _Delivered, retry_delay_s: int) -> None:
    try:
        job = JudgeImages.parse(message.payload)
    except Exception as error:  # noqa: BLE001 - a message that cannot be parsed can only be dead-lettered
        log.warning("message_dead_lettered", reason=str(error))
        _bury(app, parts, message, error)
        return
    try:
        telemetry.bind(scan_id=str(job.scan_id or message.message_id))
        _moderate(app, parts, job, message, retry_delay_s)
    except InvalidMessageError as error:
        log.warning("message_dead_lettered", reason=str(error))
        _bury(app, parts, message, error)
    except DatabaseUnavailableError as error:
        _publish_again(app, parts, job, message, retry_delay_s, error)
    except MessageGivenUpError as error:
        log.warning("message_dead_lettered", reason=str(error))
        _give_up(app, parts, job, message, retry_delay_s, error)
    except (ShuttingDownError, BrokerUnavailableError, EngineDeadError):
        raise
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        # An error in our code, or a panic of a Rust library, which is not an Exception. The images get an outcome, so
        # that the message is not redelivered for ever.
        log.exception("message_dead_lettered")
        _give_up(app, parts, job, message, retry_delay_s, error)


def _moderate(app: Celery, parts: Parts, job: JudgeImages, message: _Delivered, retry_delay_s: int) -> None:
    """Moderates the message, and publishes the images that are left for later."""
    if message.refused:
        raise MessageGivenUpError(message.refused)
    if message.deliveries >= broker.DELIVERY_LIMIT - 1:
        raise MessageGivenUpError(f"the message was redelivered {message.deliveries} times and never finished")
    with (
        parts.in_hand.only(message.message_id, parts.files.check) as here,
        message_tried(parts.database, message.message_id, came_back=message.came_back and not here) as deaths,
        parts.metrics.during(IN_FLIGHT, len(job.images)),
    ):
        later = moderate(job, message.message_id, parts, deaths=deaths)
        if later:
            _publish_later(app, parts, later, message.queue, retry_delay_s)


def _publish_again(
    app: Celery, parts: Parts, job: JudgeImages, message: _Delivered, retry_delay_s: int,
    error: DatabaseUnavailableError,
) -> None:  # fmt: skip
    """Publishes the same message under the same id. This does not count as an attempt, even if Postgres stays away."""
    log.warning("database_unavailable", reason=str(error))
    broker.publish(app, job, message.queue, countdown_s=retry_delay_s, message_id=str(message.message_id))
    parts.metrics.count(RETRIED, cause="database_unavailable")


def _give_up(
    app: Celery, parts: Parts, job: JudgeImages, message: _Delivered, retry_delay_s: int, error: BaseException
) -> None:
    """Gives the images of a valid message the outcome `failed`, and dead-letters it."""
    try:
        detail = f"the message went to {DEAD_QUEUE} ({type(error).__name__}); see the worker's log"
        give_up(job, message.message_id, parts, detail)
    except DatabaseUnavailableError as unavailable:
        _publish_again(app, parts, job, message, retry_delay_s, unavailable)
        return
    except Exception:
        log.exception("images_without_outcome", images=len(job.images))
    _bury(app, parts, message, error)


def _bury(app: Celery, parts: Parts, message: _Delivered, error: BaseException) -> None:
    broker.dead_letter(app, [message.payload], error, str(message.message_id), queue=message.queue)
    causes: dict[type[BaseException], str] = {InvalidMessageError: "invalid", MessageGivenUpError: "given_up"}
    parts.metrics.count(DEAD_LETTERS, cause=causes.get(type(error), "fault"))


def _message_id(task_id: str) -> UUID:
    """Returns the id as a UUID. For an id that is not a UUID, returns a UUID that is always the same for this id."""
    try:
        return UUID(task_id)
    except ValueError:
        return uuid5(NAMESPACE_URL, task_id)


def _publish_later(app: Celery, parts: Parts, later: JudgeImages, queue: str, retry_delay_s: int) -> None:
    delay_s = min(retry_delay_s * 2 ** min(later.attempt - 1, 20), MAX_DELAY_S) * random.uniform(0.5, 1.5)  # noqa: S311
    log.warning("images_published_again", images=len(later.images), attempt=later.attempt, delay_s=round(delay_s))
    broker.publish(app, later, queue, countdown_s=delay_s)
    parts.metrics.count(RETRIED, cause="storage_unavailable")
