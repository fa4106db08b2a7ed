"""The thin door between Celery and the path: message in; acknowledge, publish again, put back or dead-letter out."""

import random
from collections.abc import Callable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import structlog
from celery import Celery, Task
from celery.exceptions import Reject

from worker import broker, telemetry
from worker.errors import (
    BrokerUnavailableError,
    DatabaseUnavailableError,
    EngineDeadError,
    InvalidMessageError,
    ShuttingDownError,
)
from worker.lanes import queue_of
from worker.messages import JUDGE_IMAGES, JudgeImages
from worker.moderate import moderate
from worker.path import Parts

log = structlog.get_logger(__name__)

MAX_DELAY_S = 900


def register_tasks(
    app: Celery, parts: Mapping[str, Parts], *, retry_delay_s: int, on_engine_death: Callable[[EngineDeadError], None]
) -> Task:
    """Declares judge_images on the app. `parts` are those of each queue.

    `on_engine_death` ends the process and does not return.
    """

    @app.task(name=JUDGE_IMAGES, bind=True, max_retries=None)  # type: ignore[untyped-decorator]  # Celery is not typed
    def judge_images(self: Task, *args: Any, **kwargs: Any) -> None:
        message_id = _message_id(self.request.id)
        info = self.request.delivery_info or {}
        queue = queue_of(str(info.get("routing_key")))
        redelivered = bool(info.get("redelivered"))
        with telemetry.bound(message_id=str(message_id), queue=queue):
            try:
                _take(app, parts[queue], args, kwargs, message_id, queue, retry_delay_s, redelivered=redelivered)
            except (ShuttingDownError, BrokerUnavailableError) as error:
                # Also when a dead letter or a retry could not be published: better again than lost.
                raise Reject(str(error), requeue=True) from error
            except EngineDeadError as error:
                on_engine_death(error)

    return judge_images


def _take(
    app: Celery,
    parts: Parts,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    message_id: UUID,
    queue: str,
    retry_delay_s: int,
    *,
    redelivered: bool,
) -> None:
    try:
        job = _parse(args, kwargs)
        telemetry.bind(scan_id=str(job.scan_id or message_id))
        later = moderate(job, message_id, parts, redelivered=redelivered)
        if later:
            _publish_later(app, later, queue, retry_delay_s)
    except InvalidMessageError as error:
        log.warning("message_dead_lettered", reason=str(error))
        broker.dead_letter(app, args, error, str(message_id))
    except DatabaseUnavailableError as error:
        log.warning("database_unavailable", reason=str(error))
        # The same message under the same id; it never counts as an attempt, however long the database is away.
        broker.publish(app, job, queue, countdown_s=retry_delay_s, message_id=str(message_id))
    except (ShuttingDownError, BrokerUnavailableError, EngineDeadError):
        raise
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        # A fault of this code, or a panic of a library in Rust, which is no Exception: nothing is lost, nothing loops.
        log.exception("message_dead_lettered")
        broker.dead_letter(app, args, error, str(message_id))


def _parse(args: tuple[Any, ...], kwargs: dict[str, Any]) -> JudgeImages:
    if len(args) != 1 or kwargs:
        raise InvalidMessageError("the task takes one positional argument, the JudgeImages object")
    return JudgeImages.parse(args[0])


def _message_id(task_id: str) -> UUID:
    """Celery ids are UUIDs; of another program's id, a UUID that is always the same."""
    try:
        return UUID(task_id)
    except ValueError:
        return uuid5(NAMESPACE_URL, task_id)


def _publish_later(app: Celery, later: JudgeImages, queue: str, retry_delay_s: int) -> None:
    delay_s = min(retry_delay_s * 2 ** (later.attempt - 1), MAX_DELAY_S) * random.uniform(0.5, 1.5)  # noqa: S311
    log.warning("images_published_again", images=len(later.images), attempt=later.attempt, delay_s=round(delay_s))
    broker.publish(app, later, queue, countdown_s=delay_s)
