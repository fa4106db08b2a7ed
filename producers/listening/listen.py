"""`fakesweep listen`: receive what S3 tells through SQS, publish it to the live queue, delete it from SQS.

A message is deleted once the broker has confirmed all that came of it, never before. What SQS delivers a second time
is published under the ids of the first time, and so makes one submission.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from celery import Celery
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from producers.listening import events
from producers.listing import Rules
from worker import broker, telemetry
from worker.errors import BrokerUnavailableError, ConfigurationError, InvalidMessageError, TransientError
from worker.messages import LIVE_QUEUE, Explain, messages_of
from worker.settings import Settings

log = structlog.get_logger(__name__)

LONG_POLL_S = 20
"""The longest wait for messages that SQS offers."""

MAX_BACKOFF_S = 60

_MESSAGES = 10
"""The most that SQS gives, and deletes, in one call."""

_NO_WAIT_CURES = frozenset(
    {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "AccessDenied", "AccessDeniedException",
     "InvalidAddress", "InvalidSecurity", "UnsupportedOperation"}
)  # fmt: skip
"""Error codes of SQS's API after which a person must act. Every other one (5xx, throttling, old tokens) may pass."""


T = TypeVar("T")


class QueueUnavailableError(TransientError):
    """SQS throttles, times out or answers 5xx, after the client's own retries."""


def submission_id(message_id: str, batch: int) -> UUID:
    """The id of a submission: the same at each delivery of an SQS message. `batch` counts its sixteens of images."""
    return uuid5(NAMESPACE_URL, f"sqs:{message_id}/{batch}")


def listen(
    app: Celery,
    settings: Settings,
    queue_url: str,
    *,
    rules: Rules,
    explain: Explain | None = None,
    once: bool = False,
    wait_s: int = LONG_POLL_S,
) -> None:
    """Receives, publishes and deletes until SIGTERM or SIGINT; with `once`, until the queue is empty.

    `explain` None leaves it to the workers' default. Raises ConfigurationError when the queue cannot be used. Waits
    while broker or SQS are away; with `once` it raises BrokerUnavailableError or QueueUnavailableError instead, because
    SQS hides what was received and not deleted, and the queue would look empty.
    """
    telemetry.configure_logging(settings)
    with _stop_on_signals() as stop:
        queue = _EventQueue(queue_url)
        log.info("listening", queue_url=queue_url)
        while not stop.asked:
            messages = _patiently(lambda: _received(queue, wait_s, stop), QueueUnavailableError, stop, once=once)
            if once and not messages:
                break
            try:
                _take(app, queue, messages, rules, explain)
            except BrokerUnavailableError as error:
                if once:
                    raise
                # Nothing is received meanwhile: each receipt counts towards the queue's own dead-letter queue.
                log.warning("broker_unavailable", reason=str(error))
                _patiently(lambda: broker.depth(app, LIVE_QUEUE), BrokerUnavailableError, stop)
    log.info("stopped_listening")


def _received(queue: "_EventQueue", wait_s: int, stop: "_Stop") -> list[dict[str, Any]]:
    with stop.idle():
        return queue.receive(wait_s)


def _take(
    app: Celery, queue: "_EventQueue", messages: Sequence[dict[str, Any]], rules: Rules, explain: Explain | None
) -> None:
    """Publishes what the messages say and deletes them; those before a failure of the broker too."""
    counts: Counter[str] = Counter()
    ignored: Counter[str] = Counter()
    published: list[dict[str, Any]] = []
    try:
        for message in messages:
            reading = events.read(message["Body"], rules)
            _publish(app, message["MessageId"], reading, explain)
            published.append(message)
            counts.update(images=len(reading.images), dead_lettered=int(reading.fault is not None))
            ignored.update(reading.ignored)
    finally:
        if published:
            log.info("events_taken", messages=len(published), **counts, ignored=dict(ignored))
            queue.delete(published)


def _publish(app: Celery, message_id: str, reading: events.Reading, explain: Explain | None) -> None:
    for batch, job in enumerate(messages_of(reading.images, explain=explain)):
        broker.publish(app, job, LIVE_QUEUE, message_id=str(submission_id(message_id, batch)))
    if reading.fault:
        log.warning("event_dead_lettered", sqs_message_id=message_id, reason=reading.fault.reason)
        broker.dead_letter(app, reading.fault.payload, InvalidMessageError(reading.fault.reason), message_id)


def _patiently(call: Callable[[], T], away: type[TransientError], stop: "_Stop", *, once: bool = False) -> T:
    """What the call returns, called again with growing pauses while it raises `away`; with `once`, called once."""

    def warn(state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        log.warning("waiting", reason=str(error), attempt=state.attempt_number, pause_s=round(state.upcoming_sleep, 1))

    retrying = Retrying(
        retry=retry_if_exception_type(() if once else away),
        wait=wait_exponential_jitter(initial=1, max=MAX_BACKOFF_S),
        sleep=stop.sleep,
        before_sleep=warn,
        reraise=True,
    )
    return retrying(call)


class _EventQueue:
    """The SQS queue; endpoint, region and credentials as boto3 finds them."""

    def __init__(self, url: str) -> None:
        """Raises ConfigurationError, whatever is wrong: at start a person is there to see it."""
        self._url = url
        config = Config(
            connect_timeout=5, read_timeout=LONG_POLL_S + 20, retries={"mode": "standard", "total_max_attempts": 4}
        )
        try:
            self._client: Any = boto3.session.Session().client("sqs", config=config)
            # Not a first receive: that may wait for 20 s before anybody knows that all is well.
            self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        except (BotoCoreError, ClientError, ValueError) as error:
            raise _unusable(url, error) from error

    def receive(self, wait_s: int) -> list[dict[str, Any]]:
        """Up to ten messages, after at most `wait_s`. Raises QueueUnavailableError, ConfigurationError."""
        with self._errors():
            answer = self._client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=_MESSAGES, WaitTimeSeconds=wait_s
            )
        return list(answer.get("Messages", ()))

    def delete(self, messages: Sequence[dict[str, Any]]) -> None:
        """Deletes up to ten. What SQS does not delete comes again, and does no harm. Raises ConfigurationError."""
        entries = [{"Id": str(at), "ReceiptHandle": message["ReceiptHandle"]} for at, message in enumerate(messages)]
        try:
            with self._errors():
                answer = self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
        except QueueUnavailableError as error:
            log.warning("events_not_deleted", messages=len(messages), reason=str(error))
            return
        if failed := answer.get("Failed"):
            reasons = sorted({f"{entry.get('Code')}: {entry.get('Message')}" for entry in failed})
            log.warning("events_not_deleted", messages=len(failed), reason="; ".join(reasons))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in _NO_WAIT_CURES:
                raise _unusable(self._url, error) from error
            raise QueueUnavailableError(f"{self._url}: {error}") from error


def _unusable(url: str, error: Exception) -> ConfigurationError:
    said = " ".join(str(error).split())
    return ConfigurationError(
        f"cannot use the queue {url}: {said} (check the URL, AWS_REGION, the credentials, and that they allow "
        "sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes)"
    )


class _StopAsked(BaseException):
    """Leaves a wait. Not an Exception: botocore would wrap it as a network error and try again."""


class _Stop:
    """Whether a signal asked to stop. It breaks waits off, and nothing else: what is in hand is finished."""

    def __init__(self) -> None:
        self.asked = False
        self._idle = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        self.asked = True
        if self._idle:
            raise _StopAsked

    @contextmanager
    def idle(self) -> Iterator[None]:
        """A stretch of waiting. What SQS gave at that very moment it gives again after the visibility timeout."""
        self._idle = True  # before the look: a signal between the two would wait for the end of the wait
        try:
            if self.asked:
                raise _StopAsked
            yield
        finally:
            self._idle = False

    def sleep(self, seconds: float) -> None:
        """time.sleep, broken off by a signal."""
        with self.idle():
            time.sleep(seconds)


@contextmanager
def _stop_on_signals() -> Iterator[_Stop]:
    """SIGTERM and SIGINT end the body where it waits, or at its next look at `asked`."""
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    except _StopAsked:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
