"""`fakesweep listen`: receives S3's notifications from SQS, publishes them to the live queue, deletes them from SQS.

A message is deleted only when the broker has confirmed everything that was made of it. If SQS delivers a message again,
it is published under the same ids, and so makes one submission.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

import structlog
from celery import Celery
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from producers.counting import Count, Counts, count_nothing
from producers.listening import events
from producers.listening.sqs import LONG_POLL_S, EventQueue
from producers.listening.stopping import Stop, stop_on_signals
from producers.listing import Rules
from worker import broker
from worker.errors import (
    BrokerUnavailableError,
    InvalidMessageError,
    QueueUnavailableError,
    TransientError,
)
from worker.messages import LIVE_QUEUE, Explain, messages_of

log = structlog.get_logger(__name__)

MAX_BACKOFF_S = 60

T = TypeVar("T")


def submission_id(message_id: str, batch: int) -> UUID:
    """Returns the id of a submission. It is the same at each delivery of an SQS message.

    `batch` numbers the messages that are made of the SQS message, from 0.
    """
    return uuid5(NAMESPACE_URL, f"sqs:{message_id}/{batch}")


def listen(
    app: Celery,
    queue_url: str,
    *,
    rules: Rules,
    explain: Explain | None = None,
    judge: bool = False,
    also: Sequence[str] = (),
    once: bool = False,
    wait_s: int = LONG_POLL_S,
    count: Count = count_nothing,
) -> None:
    """Receives, publishes and deletes until SIGTERM or SIGINT; with `once`, until the queue is empty.

    If `explain` is None, the workers' default applies. With `judge`, the judge of a cascade sees every image. `also`
    names further detectors for second opinions. `count` is called with what was done.

    Raises ConfigurationError if the queue cannot be used. Waits while the broker or SQS is unavailable. With `once`, it
    raises BrokerUnavailableError or QueueUnavailableError instead: SQS hides messages that were received and not
    deleted, so the queue would look empty.
    """
    fields = {"explain": explain, "judge": judge or None, "also": tuple(also) or None}
    with stop_on_signals() as stop:
        queue = EventQueue(queue_url)
        log.info("listening", queue_url=queue_url)
        while not stop.asked:
            messages = _patiently(lambda: _received(queue, wait_s, stop), QueueUnavailableError, stop, once=once)
            if once and not messages:
                break
            try:
                _take(app, queue, messages, rules, fields, count)
            except BrokerUnavailableError as error:
                if once:
                    raise
                # Receive nothing until then: each receive counts towards the queue's own dead-letter queue.
                log.warning("broker_unavailable", reason=str(error))
                _patiently(lambda: broker.depth(app, LIVE_QUEUE), BrokerUnavailableError, stop)
    log.info("stopped_listening")


def _received(queue: EventQueue, wait_s: int, stop: Stop) -> list[dict[str, Any]]:
    with stop.idle():
        return queue.receive(wait_s)


def _take(
    app: Celery, queue: EventQueue, messages: Sequence[dict[str, Any]], rules: Rules, fields: Mapping[str, Any],
    count: Count,
) -> None:  # fmt: skip
    """Publishes what the messages say, then deletes them. If the broker fails, deletes those that were published.

    `fields` are the other fields of what is published.
    """
    counts: Counter[str] = Counter()
    ignored: Counter[str] = Counter()
    published: list[dict[str, Any]] = []
    try:
        for message in messages:
            reading = events.read(message["Body"], rules)
            _publish(app, message["MessageId"], reading, fields)
            published.append(message)
            images, faults = len(reading.images), int(reading.fault is not None)
            counts.update(images=images, dead_lettered=faults)
            count(Counts(listed=images, published=images, dead_lettered=faults))
            ignored.update(reading.ignored)
    finally:
        if published:
            log.info("events_taken", messages=len(published), **counts, ignored=dict(ignored))
            queue.delete(published)


def _publish(app: Celery, message_id: str, reading: events.Reading, fields: Mapping[str, Any]) -> None:
    for batch, job in enumerate(messages_of(reading.images, **fields)):
        broker.publish(app, job, LIVE_QUEUE, message_id=str(submission_id(message_id, batch)))
    if reading.fault:
        log.warning("event_dead_lettered", sqs_message_id=message_id, reason=reading.fault.reason)
        broker.dead_letter(app, reading.fault.payload, InvalidMessageError(reading.fault.reason), message_id)


def _patiently(call: Callable[[], T], away: type[TransientError], stop: Stop, *, once: bool = False) -> T:
    """Calls `call` and returns its result. Retries with growing pauses while it raises `away`, but not with `once`."""

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
