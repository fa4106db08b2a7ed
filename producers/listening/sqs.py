"""The SQS queue that S3 notifies: receive and delete, and what SQS says when that does not work."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from worker.aws import AWS_ERRORS, Diagnosis, Kind, diagnose, sqs_client
from worker.errors import ConfigurationError, QueueUnavailableError

log = structlog.get_logger(__name__)

LONG_POLL_S = 20
"""The longest wait for messages that SQS offers."""

_MESSAGES = 10
"""The most that SQS gives, and deletes, in one call."""

_NO_WAIT_CURES = frozenset({Kind.NO_QUEUE, Kind.ACCESS_DENIED, Kind.MISCONFIGURED})
"""Answers of SQS after which a person must act. Every other one (5xx, throttling, old tokens) may pass.

So may what is no answer of SQS: credentials, for example, that cannot be found for a while.
"""


class EventQueue:
    """The SQS queue; endpoint, region and credentials as boto3 finds them."""

    def __init__(self, url: str) -> None:
        """Raises ConfigurationError, whatever is wrong: at start a person is there to see it."""
        self._url = url
        try:
            self._client = sqs_client(timeout_s=LONG_POLL_S + 20)
            # Not a first receive: that may wait for 20 s before anybody knows that all is well.
            self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        except AWS_ERRORS as error:
            raise _unusable(url, diagnose(error)) from error

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
        except AWS_ERRORS as error:
            found = diagnose(error)
            if found.answered and found.kind in _NO_WAIT_CURES:
                raise _unusable(self._url, found) from error
            raise QueueUnavailableError(f"{self._url}: {found.text}") from error


def _unusable(url: str, found: Diagnosis) -> ConfigurationError:
    return ConfigurationError(
        f"cannot use the queue {url}: {found.text} (check the URL, AWS_REGION, the credentials, and that they allow "
        "sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes)"
    )
