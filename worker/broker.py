"""The Celery app, the queues and the dead letters. Importing this is fast, because producers import it too."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.exceptions import CeleryError
from kombu import Exchange, Queue
from kombu.exceptions import KombuError
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.url import maybe_sanitize_url

from worker.amqp_frames import tolerant_frames
from worker.envelope import PUBLISHED_AT
from worker.errors import BrokerUnavailableError, ConfigurationError, FakesweepError
from worker.messages import DEAD_QUEUE, JUDGE_IMAGES, LIVE_QUEUE, SCAN_QUEUE, JudgeImages
from worker.tls import BrokerTls, broker_explained

DELIVERY_LIMIT = 20
"""RabbitMQ dead-letters a message after this many redeliveries. Deploys cause fewer. Without a limit, a message that
no worker can finish would be redelivered for ever."""

EXCHANGE = Exchange("moderation", type="topic", durable=True)
"""Where messages are published. A topic exchange: Celery's delayed delivery over quorum queues needs one."""

_EXAMPLES = "give amqp://user:password@host// or redis://host:6379/0"
_QUORUM = {"x-queue-type": "quorum"}
_WORK_ARGUMENTS = {
    **_QUORUM,
    "x-delivery-limit": DELIVERY_LIMIT,
    # At-least-once dead-lettering, so that a dead letter cannot be lost on its way. It requires reject-publish.
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": DEAD_QUEUE,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


def work_queue(name: str) -> Queue:
    """Returns a queue of JudgeImages messages. On RabbitMQ it is a quorum queue; Redis ignores the arguments."""
    return Queue(name, EXCHANGE, routing_key=name, durable=True, queue_arguments=_WORK_ARGUMENTS)


def dead_queue() -> Queue:
    """Returns the queue for messages that no worker can handle. Nothing consumes it: people look at them."""
    return Queue(DEAD_QUEUE, EXCHANGE, routing_key=DEAD_QUEUE, durable=True, queue_arguments=_QUORUM)


def create_app(broker_url: str, *, tls: BrokerTls | None = None, **options: Any) -> Celery:
    """Returns the Celery app, not connected yet. Raises ConfigurationError when the URL is missing or unusable.

    `tls` names the files for amqps:// and rediss://. `options` are Celery's own arguments.
    """
    if not broker_url:
        raise ConfigurationError(f"BROKER_URL is not set: {_EXAMPLES}")
    if "://" not in broker_url:  # a message would show it, and it may be a password
        raise ConfigurationError(f"BROKER_URL is not a URL: {_EXAMPLES}")
    TRANSPORT_ALIASES.update(redis="worker.redis_moving:Transport", rediss="worker.redis_moving:Transport")
    app = Celery("fakesweep", broker=broker_url, set_as_current=False, **options)
    app.conf.update(
        task_queues=[work_queue(LIVE_QUEUE), work_queue(SCAN_QUEUE)],
        task_default_queue=SCAN_QUEUE,
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_acks_on_failure=False,
        worker_prefetch_multiplier=1,
        worker_consumer="worker.consumer:DeadLetteringConsumer",
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=5,
        broker_use_ssl=(tls or BrokerTls()).options(broker_url),
        broker_transport_options=_transport_options(broker_url),
    )
    return app


def _transport_options(broker_url: str) -> dict[str, Any]:
    scheme = broker_url.partition(":")[0]
    if scheme in {"amqp", "amqps", "pyamqp"}:
        return {"confirm_publish": True, "frame_handler": tolerant_frames}
    if scheme in {"redis", "rediss"}:
        return {
            "visibility_timeout": 3600,
            "queue_order_strategy": "priority",  # live before scan
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
        }
    return {}


def check_url(app: Celery) -> Any:
    """Returns a connection that is not open yet. Raises ConfigurationError if BROKER_URL cannot be understood."""
    try:
        return app.connection_for_write()
    except (KeyError, ValueError, ImportError, NameError) as error:
        # NameError: kombu lacks the client of a transport, such as kafka://. The error's text is left out, because it
        # may hold a part of the password.
        scheme = app.conf.broker_url.partition(":")[0]
        raise ConfigurationError(f"BROKER_URL: {scheme}://… is not a URL that kombu knows") from error


def check_broker(app: Celery) -> None:
    """Connects once and declares the queues. Raises ConfigurationError within about 5 s when that fails."""
    connection = check_url(app)
    url = maybe_sanitize_url(app.conf.broker_url)
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
            declare_queues(connection)
    except (OSError, KombuError, CeleryError, *connection.connection_errors, *connection.channel_errors) as error:
        cause = broker_explained(error) or str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigurationError(f"BROKER_URL: cannot use {url}: {cause}") from error


def declare_queues(connection: Any) -> None:
    """Declares the queues. A queue that exists already stays as it is."""
    for queue in (work_queue(LIVE_QUEUE), work_queue(SCAN_QUEUE), dead_queue()):
        queue(connection.default_channel).declare()


def declare(app: Celery) -> None:
    """Declares the queues. A process that may live for long calls this before it publishes.

    Celery declares them once per connection, and a Redis that is emptied forgets them: then messages would be lost
    without an error. Raises BrokerUnavailableError.
    """
    with unavailable(), app.connection_for_write() as connection:
        declare_queues(connection)


def publish(
    app: Celery, job: JudgeImages, queue: str, *, countdown_s: float | None = None, message_id: str | None = None
) -> None:
    """Publishes a message and waits for the broker's confirmation (RabbitMQ) or write (Redis).

    Raises BrokerUnavailableError.
    """
    with unavailable():
        app.send_task(
            JUDGE_IMAGES, args=[job.payload()], queue=queue,
            countdown=countdown_s, task_id=message_id, confirm_timeout=30, headers=published_now(),
        )  # fmt: skip


def published_now() -> dict[str, str]:
    """Returns the header with the time of publishing. Workers compute from it how long a message has waited."""
    return {PUBLISHED_AT: datetime.now(UTC).isoformat(timespec="milliseconds")}


def dead_letter(app: Celery, payload: Any, error: BaseException, message_id: str, *, queue: str | None = None) -> None:
    """Publishes what was received to the dead letters, with the reason. Raises BrokerUnavailableError.

    `queue` is where it was received, or None if that is not known.
    """
    letter = {
        "reason": f"{type(error).__name__}: {error}",
        "message_id": message_id,
        "queue": queue,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "payload": payload,
    }
    with unavailable(), app.connection_for_write() as connection:
        app.amqp.Producer(connection, auto_declare=False).publish(
            letter, exchange=EXCHANGE, routing_key=DEAD_QUEUE, declare=[dead_queue()], serializer="json",
            delivery_mode=2, retry=True, retry_policy={"max_retries": 3}, confirm_timeout=30,
        )  # fmt: skip


def depth(app: Celery, queue: str) -> int:
    """Returns how many messages wait in a queue, without those that workers hold. Raises BrokerUnavailableError."""
    with unavailable(), app.connection_for_write() as connection:
        return waiting(connection.default_channel, queue)


def waiting(channel: Any, queue: str) -> int:
    """Returns the same as `depth`, on a channel that is open. Raises the errors of the transport."""
    # Not declared passively: a Redis list that is empty does not exist, and kombu takes that for a missing queue.
    answer = channel.queue_declare(queue, durable=True, auto_delete=False, arguments=_WORK_ARGUMENTS)
    return int(answer.message_count)


def dead_count(channel: Any) -> int:
    """Returns how many dead letters there are. Raises the errors of the transport."""
    arguments = {"durable": True, "auto_delete": False, "arguments": _QUORUM}
    return int(channel.queue_declare(DEAD_QUEUE, **arguments).message_count)


@contextmanager
def unavailable(*but: type[FakesweepError]) -> Iterator[None]:
    """Turns every error in the body into a BrokerUnavailableError, except errors of the types `but`.

    What we send is valid, so the broker causes these errors, and each transport has errors of its own.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (BrokerUnavailableError, *but)):
            raise
        raise BrokerUnavailableError(f"BROKER_URL: {type(error).__name__}: {error}") from error
