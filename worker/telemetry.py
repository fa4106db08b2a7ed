"""Structured logs and Sentry, configured in one place. No image bytes, secrets or presigned URLs leave the process
here.
"""

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import sentry_sdk
import structlog
from amqp.exceptions import ConnectionError as AmqpConnectionError
from celery.exceptions import Reject
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration
from sentry_sdk.utils import BadDsn, Dsn
from structlog.typing import EventDict, WrappedLogger

from worker.errors import ConfigurationError
from worker.settings import Settings
from worker.variables import names_of, unknown_variables

_SECRET = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/@\s:]*:[^@\s]*@"  # credentials in a URL
    r"|(?P<query>[?&](?:X-Amz-[A-Za-z-]+|AWSAccessKeyId|Signature)=)[^&\s\"']*"  # presigned URLs
    r"|(?P<name>\b(?:aws_)?(?:secret_access_key|session_token|password)\b[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]+",
    re.IGNORECASE,
)

_QUIET = (
    "celery.worker.strategy", "celery.app.trace", "botocore", "boto3", "urllib3",
    "httpx", "httpx2", "httpcore", "httpcore2",
)  # fmt: skip
"""They log nothing below WARNING. At INFO, Celery would log every received and successful message, SQLAlchemy and boto3
every call, and httpx2 the URL of a webhook, whose path or query may be a secret."""


def scrub(value: Any) -> Any:
    """Returns the value with every credential and signature in its strings replaced, at any depth."""
    if isinstance(value, str):
        return _SECRET.sub(lambda found: f"{found['scheme'] or found['query'] or found['name']}[scrubbed]", value)
    if isinstance(value, dict):
        return {key: scrub(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    return f"[{len(value)} bytes]" if isinstance(value, bytes | bytearray) else value


def _scrub_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: item if key.startswith("_") or key == "exc_info" else scrub(item) for key, item in event.items()}


def configure_logging(settings: Settings) -> None:
    """Writes one line per event to stderr, as JSON or for people. This includes Celery's events. vLLM's processes
    write their own lines.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _scrub_event,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    logging.getLogger("celery.app.trace").addFilter(_is_no_reject)
    for name in ("celery.worker.request", "celery.worker.loops"):
        logging.getLogger(name).addFilter(_shorten)


def _is_no_reject(record: logging.LogRecord) -> bool:
    """Drops what Celery writes when a task puts its message back: two tracebacks and the message. See worker.tasks."""
    return not (record.exc_info and record.exc_info[0] is Reject)


def _shorten(record: logging.LogRecord) -> bool:
    """Shortens to a warning of one line what Celery writes, with tracebacks, about messages of a lost connection.

    This is not an error of the worker, and nothing is lost: the broker redelivers the messages.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, OSError | AmqpConnectionError) or str(record.msg).startswith(("Couldn't ack", "Couldn't rej")):
        record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
    return True


def init_sentry(settings: Settings) -> None:
    """Switches Sentry on if there is a DSN, with named integrations only, without local variables, and without secrets.

    Raises ConfigurationError if the DSN is not valid.
    """
    dsn = settings.sentry_dsn.get_secret_value()
    if not dsn:
        return
    try:
        Dsn(dsn)
    except BadDsn as error:
        raise ConfigurationError(f"SENTRY_DSN is not valid: {error}: give it as Sentry shows it") from None
    sentry_sdk.init(
        dsn=dsn,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[
            AtexitIntegration(callback=lambda _pending, _timeout: None),
            CeleryIntegration(),
            DedupeIntegration(),
            ExcepthookIntegration(),
            LoggingIntegration(level=logging.INFO, event_level=logging.ERROR),
            ThreadingIntegration(),
        ],
        include_local_variables=False,
        send_default_pii=False,
        max_request_body_size="never",
        before_send=lambda event, _hint: scrub(event),
        before_breadcrumb=lambda crumb, _hint: scrub(crumb),
    )


def name_replica(number: int) -> None:
    """Puts the replica's number on every log line of this process, including Celery's and vLLM's, and on every
    Sentry event.
    """

    def named(record: logging.LogRecord) -> bool:
        # structlog passes its events as dictionaries. For other lines, it takes the record's attributes.
        own = record.msg if isinstance(record.msg, dict) else record.__dict__
        own["replica"] = number
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(named)
    sentry_sdk.get_global_scope().set_tag("replica", str(number))


def flush() -> None:
    """Sends what is still waiting for Sentry. It is called before the process ends itself."""
    sentry_sdk.flush(timeout=2)


@contextmanager
def bound(**ids: str) -> Iterator[None]:
    """Puts the ids (message, queue, scan) on every log line and Sentry event of the body."""
    before = structlog.contextvars.get_contextvars()
    with sentry_sdk.new_scope() as scope:
        structlog.contextvars.bind_contextvars(**ids)
        scope.set_tags(ids)
        try:
            yield
        finally:  # also without the ids of bind(): the thread's next message has others
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(**before)


def bind(**ids: str) -> None:
    """Adds ids to those of the surrounding bound(), until its end."""
    structlog.contextvars.bind_contextvars(**ids)
    sentry_sdk.get_current_scope().set_tags(ids)


def warn_of_unknown_variables(given: Iterable[str]) -> None:
    """Logs the variables FAKESWEEP_… that a worker does not know. It cannot know all those of the review desk."""
    if told := unknown_variables(given, names_of(Settings), beginnings=("FAKESWEEP_WEB_",)):
        structlog.get_logger(__name__).warning("unknown_variables", told=told)
