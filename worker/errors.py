"""All errors of the project, grouped by what happens to them. An error that belongs to the tree of another library is
defined where it is raised.

FakesweepError
│   Errors of a command. They print one line to stderr. The exit code is 1 unless the line below names another one.
├── ConfigurationError      the operator must change a setting: exit code 2
│   └── SchemaTooNewError   the schema does not work with this release: install a newer one
├── UsageError              the user must change the command line: exit code 2
│   └── NoSuchDetectorError  no worker has started with a detector that the scan asks for: exit code 2
├── SourceError             a source cannot be read: repair it, then resume the scan
│   └── UnknownSourceError  the user must name another source: exit code 2
├── NoSuchScanError         the command names a scan that does not exist
├── ScanStateError          the status of the scan does not allow the command
├── NoSuchContentError      a review is about a content or a place that is not known: name another one
├── NoSuchReviewerError     a review or a command names a reviewer who does not exist: add the reviewer
├── InactiveReviewerError   a review is by a reviewer who is disabled
├── NoSuchTokenError        a command names a token of the API that does not exist
├── NoSuchEndpointError     a command names an endpoint of webhooks that does not exist
├── AddressRefusedError     a webhook's address is not public: nothing is sent to it
├── KeyReusedError          a request of the API has the idempotency key of another request: use a new key
├── NothingToExportError    people must review or label something before an export
├── PackageDoubtError       an audit package was changed, is incomplete, or is none: the text names the place
├── OlderAtWorkError        a migration would break an older release that is connected: stop its processes
├── AnnotationStoppedError  the annotation stopped early: run the same command later to continue
│   Errors of a producer.
├── SupersededError         the scan has another producer, or was paused or cancelled: this one stops with a warning
│   Errors of one row of a source, one message or one image.
├── BadRowError             the row names no image: reported with its line, counted and skipped
├── InvalidMessageError     the message can never be understood: dead-lettered with the reason
├── MessageGivenUpError     a valid message that is not moderated: its images fail, and it is dead-lettered
├── ImageError              the outcome of the image is `failed`, with the reason code
│   Errors that are temporary.
├── TransientError          the next try may succeed: retried, at once or with a delay
│   ├── StorageUnavailableError
│   ├── DatabaseUnavailableError
│   ├── BrokerUnavailableError
│   ├── QueueUnavailableError
│   ├── LockedError
│   ├── FasterError          other people got each content that the desk had for this person: ask for the next one
│   ├── KeyInUseError        another request with this idempotency key is being answered
│   └── ShuttingDownError   the worker is stopping: the message goes back to the queue
│   Errors of the engine.
├── EngineGenerateError     one request failed, and the engine is alive: tried once more, then the image fails
├── EngineDeadError         the engine is dead or hung: the process ends with an error and acknowledges nothing
├── NotReadyError           we cannot make ready inputs: vLLM's renderer makes the inputs, and the log says why
│   Errors of one record of an annotation.
├── NotAnnotatedError       the record gets no explanation: counted with its cause; other records are not affected
├── MalformedAnswerError    the model is asked again; after the last try, it becomes a NotAnnotatedError
├── RefusedError            becomes a NotAnnotatedError, without another try
├── NotAnsweredError        becomes a NotAnnotatedError, after the retries of the client
│   Errors of a request to the web process.
├── NotLoggedInError        nobody is logged in: the app redirects to the login page, or answers 401
├── ForbiddenError          the person may not do this
├── CsrfError               the form is not from our own pages
├── WrongFormError          a field of the form has a wrong value: the form is shown again with the fault
├── WrongAddressError       we did not make the address of this picture
├── ExpiredAddressError     we made the address of this picture, but it is too old
├── BusyError               too many pictures are being made
├── NotWaitingError         the content does not wait for this person: they can only look at it
├── ClaimLostError          the person's claim is no longer valid: nothing is stored
├── GoneError               the content has left the queue
│   A mistake in our own code.
└── UndeclaredMetricError   worker/metrics/declared.py does not declare the metric, the label or its value
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why an image has no verdict. The codes are stored, and people see them and filter by them. A code never
    changes its meaning.
    """

    NOT_FOUND = "not_found"
    ACCESS_DENIED = "access_denied"
    CHANGED = "changed"  # the object's ETag is no longer the listed one
    TOO_LARGE = "too_large"  # more bytes than FAKESWEEP_MAX_BYTES
    TOO_MANY_PIXELS = "too_many_pixels"  # more than FAKESWEEP_MAX_PIXELS, or more memory or time than decoding may take
    TOO_SMALL = "too_small"  # the shorter edge has less than FAKESWEEP_MIN_EDGE pixels
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    CORRUPT = "corrupt"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    ENGINE_FAILED = "engine_failed"


class FakesweepError(Exception):
    """The base class of all errors that this project raises on purpose."""


class ConfigurationError(FakesweepError):
    """A setting is missing or wrong. The text names the setting and the remedy."""


class SchemaTooNewError(ConfigurationError):
    """The schema does not say that it works with this release, which is older. The text names both."""


class UsageError(FakesweepError):
    """The command line asks for something that is not possible."""


class NoSuchDetectorError(UsageError):
    """A scan asks for the second opinion of a detector that no worker has started with."""


class SourceError(FakesweepError):
    """The source cannot be read; the text says which and why."""


class UnknownSourceError(SourceError):
    """The source does not exist, or is not something that can be listed."""


class NoSuchScanError(FakesweepError):
    """There is no scan with that id."""


class ScanStateError(FakesweepError):
    """The status of the scan does not allow the command."""


class NoSuchContentError(FakesweepError):
    """No detector has judged the content, or no scan found it at that uri."""


class NoSuchReviewerError(FakesweepError):
    """There is no reviewer with that name."""


class InactiveReviewerError(FakesweepError):
    """The reviewer is disabled and cannot review."""


class NoSuchTokenError(FakesweepError):
    """There is no token with that name."""


class NoSuchEndpointError(FakesweepError):
    """There is no endpoint of webhooks with that name."""


class AddressRefusedError(FakesweepError):
    """A webhook's host has an address to which nothing may be sent. The text names both and the setting."""


class KeyReusedError(FakesweepError):
    """The idempotency key was used for a request with another body."""


class NothingToExportError(FakesweepError):
    """No content has a label."""


class PackageDoubtError(FakesweepError):
    """An audit package was changed, is incomplete, or is none. `place` is the first place of doubt."""

    def __init__(
        self, place: str, why: str, remedy: str = "do not rely on this copy, and ask who signed it for another"
    ) -> None:
        super().__init__(f"{place}: {why}; {remedy}")
        self.place = place


class OlderAtWorkError(FakesweepError):
    """A release that does not work with a revision is connected to the database. The text names both."""


class AnnotationStoppedError(FakesweepError):
    """The run stopped early; the same command continues it. The text says why, and what helps."""


class SupersededError(FakesweepError):
    """Another producer has continued the scan, or somebody paused or cancelled it."""


class BadRowError(FakesweepError):
    """A row, a line or an argument names no image. The text says what is wrong with it."""


class InvalidMessageError(FakesweepError):
    """A message that is not valid. The text says what is wrong with it."""


class MessageGivenUpError(FakesweepError):
    """A valid message that has expired, or was redelivered too often and never finished."""


class ImageError(FakesweepError):
    """This image gets the outcome `failed`.

    `reason` is the stored code, and `detail` is one line for a person (no secrets, no presigned URLs).
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class TransientError(FakesweepError):
    """A temporary error: the same step may succeed later."""


class StorageUnavailableError(TransientError):
    """The storage cannot be reached, or refuses for a reason that has nothing to do with the image."""


class DatabaseUnavailableError(TransientError):
    """Postgres cannot be reached, or the connection was lost."""


class BrokerUnavailableError(TransientError):
    """The broker did not take a message."""


class QueueUnavailableError(TransientError):
    """SQS throttles, times out or answers 5xx, after the client's own retries."""


class LockedError(TransientError):
    """Another session holds a lock on what is to be read or written. Try again later."""


class FasterError(TransientError):
    """Each time that the desk had a content for this person, another person got it first."""


class KeyInUseError(TransientError):
    """Another request with this idempotency key is being answered."""


class ShuttingDownError(TransientError):
    """The worker must stop, and has not started with this message's images."""


class EngineGenerateError(FakesweepError):
    """The engine could not answer for one image. Other images are not affected."""


class EngineDeadError(FakesweepError):
    """The engine will not answer again in this process."""


class NotReadyError(FakesweepError):
    """We cannot make ready inputs for this model, or with this version of vLLM. The text says why."""


class NotAnnotatedError(FakesweepError):
    """This record gets no explanation. Other records are not affected.

    `cause` is a Cause or an AnnotationCause (worker.lab), and `detail` is one line for a person.
    """

    def __init__(self, cause: StrEnum, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail


class MalformedAnswerError(FakesweepError):
    """An answer that is not the JSON that was asked for. The text says what is wrong with it."""


class RefusedError(FakesweepError):
    """The endpoint refused this request. Other requests are not affected."""


class NotAnsweredError(FakesweepError):
    """There was no answer to this request after all retries. Other requests may get one."""


class NotLoggedInError(FakesweepError):
    """Nobody is logged in: the app redirects to the login page."""


class ForbiddenError(FakesweepError):
    """The person may not do this. The text says which role may."""


class CsrfError(FakesweepError):
    """The form does not carry the token of the session that sends it, or another site sends it."""


class WrongFormError(FakesweepError):
    """A value in a form is wrong. `field` is the name of its input."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class WrongAddressError(FakesweepError):
    """We did not make this address, or we made it for another person."""


class ExpiredAddressError(FakesweepError):
    """We made the address, but it is too old."""


class BusyError(FakesweepError):
    """Too many pictures are being made."""


class NotWaitingError(FakesweepError):
    """The content does not wait for this person: the text says why. They can still look at it."""


class ClaimLostError(FakesweepError):
    """The person's claim is no longer valid. `holder`: who claims the content now. `decided_by`: who has decided it.

    Both may be None.
    """

    def __init__(self, text: str, *, holder: str | None = None, decided_by: str | None = None) -> None:
        super().__init__(text)
        self.holder = holder
        self.decided_by = decided_by


class GoneError(FakesweepError):
    """The content has left the queue: the text says why."""


class UndeclaredMetricError(FakesweepError):
    """A metric, a label or a label's value that is not declared. The text names it."""
