"""Uses the SQS queue that S3 notifies: receives, deletes, and reports the errors of SQS."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from worker.aws import AWS_ERRORS, Diagnosis, Kind, diagnose, sqs_client
from worker.errors import ConfigurationError, QueueUnavailableError

log = structlog.get_logger(__name__)

LONG_POLL_S = 20
"""The longest wait for messages that SQS offers, in seconds."""

_MESSAGES = 10
"""The most messages that SQS returns or deletes in one call."""

_NO_WAIT_CURES = frozenset({Kind.NO_QUEUE, Kind.ACCESS_DENIED, Kind.MISCONFIGURED})
"""Answers of SQS after which a person must act. Any other answer (5xx, throttling, old tokens) may pass.

Errors that do not come from SQS may pass, too: credentials, for example, that cannot be found for a while.
"""


class EventQueue:
    """The SQS queue. boto3 finds endpoint, region and credentials."""

    def __init__(self, url: str) -> None:
        """Raises ConfigurationError for every error, because a person sees it at the start."""
        self._url = url
        try:
            self._client = sqs_client(timeout_s=LONG_POLL_S + 20)
            # Not a first receive, which may wait for 20 s before anybody knows that everything works.
            self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        except AWS_ERRORS as error:
            raise _unusable(url, diagnose(error)) from error

    def receive(self, wait_s: int) -> list[dict[str, Any]]:
        """Receives up to ten messages within `wait_s` seconds. Raises QueueUnavailableError, ConfigurationError."""
        with self._errors():
            answer = self._client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=_MESSAGES, WaitTimeSeconds=wait_s
            )
        return list(answer.get("Messages", ()))

    def delete(self, messages: Sequence[dict[str, Any]]) -> None:
        """Deletes up to ten messages. Those that SQS keeps come again without harm. Raises ConfigurationError."""
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
