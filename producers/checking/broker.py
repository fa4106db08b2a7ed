"""Whether the broker can be used: login, encryption, queues, publishing, dead letters."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from producers.checking.hosts import is_near
from producers.checking.rows import HANDLES_IMAGES, Check, Row, Subject, ok, skipped, warning, wrong
from worker.errors import ConfigurationError
from worker.messages import DEAD_QUEUE, LIVE_QUEUE, SCAN_QUEUE

if TYPE_CHECKING:
    from celery import Celery

_KEY = "fakesweep.check"
"""The routing key, or the list on Redis, of the message that a check publishes. No queue gets it."""
_MEND = "check BROKER_URL, and that the broker can be reached from here"

_REMEDIES = (
    (
        r"ACCESS_REFUSED.*login|WRONGPASS|NOAUTH|invalid username-password",
        "check the user and the password in BROKER_URL",
    ),
    (r"ACCESS_REFUSED|NOPERM", "give the user the rights to configure, write and read (rabbitmqctl set_permissions)"),
    (r"NOT_ALLOWED|vhost", "make the virtual host and give the user rights (rabbitmqctl add_vhost, set_permissions)"),
)
"""What RabbitMQ and Redis say, and what helps."""


@contextmanager
def _opened(subject: Subject) -> Iterator[tuple["Celery", Any]]:
    """Gives the app and an open connection. Raises ConfigurationError with what the broker says."""
    from worker import broker
    from worker.tls import broker_explained

    settings = subject.settings
    app = broker.create_app(settings.broker_url.get_secret_value(), tls=settings.broker_tls)
    connection = broker.check_url(app)
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=5)
            _ = connection.default_channel
            yield app, connection
    except connection.connection_errors + connection.channel_errors + (OSError,) as error:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigurationError(broker_explained(error) or said) from error


def _reachable(subject: Subject) -> Iterator[Row]:
    from kombu.utils.url import maybe_sanitize_url

    try:
        with _opened(subject) as (app, _):
            yield ok(str(maybe_sanitize_url(app.conf.broker_url)))
    except ConfigurationError as error:
        yield wrong(
            str(error),
            next((remedy for said, remedy in _REMEDIES if re.search(said, str(error), re.IGNORECASE)), _MEND),
        )


def _encryption(subject: Subject) -> Iterator[Row]:
    from urllib.parse import urlsplit

    parts = urlsplit(subject.settings.broker_url.get_secret_value().partition(";")[0])
    if parts.scheme in {"amqps", "rediss"}:
        own = ", and the broker sees our certificate" if subject.settings.broker_cert_file else ""
        yield ok(f"TLS, and the broker's certificate and name are verified{own}")
    elif is_near(parts.hostname):
        yield ok("not encrypted, on this machine")
    elif parts.scheme in {"amqp", "redis"}:
        yield warning("not encrypted", f"begin BROKER_URL with {parts.scheme}s:// (docs/tls.md)")
    else:
        yield skipped(f"{parts.scheme}:// has its own encryption")


def _queues(subject: Subject) -> Iterator[Row]:
    from worker.broker import dead_queue, work_queue

    with _opened(subject) as (_, connection):
        if connection.transport.driver_type != "amqp":
            yield skipped("only RabbitMQ has queues with arguments")
            return
        for queue in (work_queue(LIVE_QUEUE), work_queue(SCAN_QUEUE), dead_queue()):
            yield _queue(connection, queue)


def _queue(connection: Any, queue: Any) -> Row:
    """Looks at a queue without making it. Each try needs a new channel, because RabbitMQ closes it after an error."""
    from amqp.exceptions import NotFound, PreconditionFailed

    try:
        with connection.channel() as channel:
            there = channel.queue_declare(queue.name, passive=True)
        with connection.channel() as channel:
            channel.queue_declare(queue.name, durable=True, auto_delete=False, arguments=queue.queue_arguments)
    except NotFound:
        return warning("is not there yet", "nothing: the first worker or scan makes it", queue.name)
    except PreconditionFailed as error:
        return wrong(
            f"has arguments that differ from ours: {error}",
            "stop all processes, delete the empty queue, start them",
            queue.name,
        )
    return ok(f"{there.message_count} messages, {there.consumer_count} consumers", queue.name)


def _publishing(subject: Subject) -> Iterator[Row]:
    from worker.broker import EXCHANGE

    with _opened(subject) as (app, connection):
        if connection.transport.driver_type == "redis":
            yield _writing(connection.default_channel.client)
            return
        producer = app.amqp.Producer(connection, auto_declare=False)
        try:
            producer.publish({}, exchange=EXCHANGE.name, routing_key=_KEY, serializer="json", confirm_timeout=5)
        except connection.channel_errors as error:
            yield _not_published(str(error))
        else:
            yield ok("may publish")


def _not_published(said: str) -> Row:
    if "NOT_FOUND" in said:
        return skipped("the exchange is not there yet")
    return wrong(f"has no right to publish: {said}", "give the user the right to write (rabbitmqctl set_permissions)")


def _writing(client: Any) -> Row:
    from redis.exceptions import ResponseError

    client.lpush(_KEY, "")
    client.delete(_KEY)
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except ResponseError:
        policy = "noeviction"  # servers of others may forbid the question
    if policy != "noeviction":
        return wrong(
            f"Redis deletes messages when its memory is full (maxmemory-policy {policy})",
            "set maxmemory-policy to noeviction",
        )
    return ok("may publish")


def _dead(subject: Subject) -> Iterator[Row]:
    with _opened(subject) as (_, connection):
        try:
            count = connection.default_channel.queue_declare(DEAD_QUEUE, passive=True).message_count
        except connection.channel_errors:
            count = 0  # there is no queue yet
    if count:
        yield warning(f"{count} waiting", "look at them with `fakesweep dead list`, then replay or discard them")
    else:
        yield ok("none")


CHECKS = (
    Check("broker", _reachable, _MEND, needed_by=HANDLES_IMAGES),
    Check("broker encryption", _encryption, _MEND, needed_by=HANDLES_IMAGES),
    Check("broker queue", _queues, _MEND, after="broker", needed_by=HANDLES_IMAGES),
    Check("broker publishing", _publishing, _MEND, after="broker", needed_by=HANDLES_IMAGES),
    Check("dead letters", _dead, _MEND, after="broker", needed_by=HANDLES_IMAGES),
)
