"""The error tree, split by what is done with an error. Every error of the project stands here, except those in the
tree of another library.

FakesweepError
│   Of a command: one line on stderr, and exit code 1 where no other is given.
├── ConfigurationError      the operator must change a setting: exit code 2
├── UsageError              the user must change the command line: exit code 2
├── SourceError             a source cannot be read: mend it, then resume the scan
│   └── UnknownSourceError  the user must name another source: exit code 2
├── NoSuchScanError         the command names a scan that is not there
├── ScanStateError          the command asks of a scan what its status does not allow
├── NoSuchContentError      a review is about a content or a place that is not known: name another one
├── NoSuchReviewerError     a review, or a command, names a reviewer who is not there: add the reviewer
├── InactiveReviewerError   a review is by a reviewer who is disabled
├── NoSuchTokenError        a command names a token of the API that is not there
├── KeyReusedError          a request of the API takes an idempotency key that belongs to another: take a new key
├── NothingToExportError    people must review or label something before an export
├── OlderAtWorkError        a migration would break an older release that is connected: stop its processes
├── AnnotationStoppedError  the annotation cannot go on: the same command later goes on with it
│   Of a producer.
├── SupersededError         another producer has the scan, or nobody wants it now: this one stops with a warning
│   Of one row of a source, one message or one image.
├── BadRowError             the row names no image: reported with its line, counted and skipped
├── InvalidMessageError     the message can never be understood: dead-lettered with the reason
├── MessageGivenUpError     a valid message that is not moderated: its images fail, and it is dead-lettered
├── ImageError              this image's outcome is `failed` with the reason code
│   Of something outside.
├── TransientError          may pass by itself: tried again, in place or with a delay
│   ├── StorageUnavailableError
│   ├── DatabaseUnavailableError
│   ├── BrokerUnavailableError
│   ├── QueueUnavailableError
│   ├── LockedError
│   ├── FasterError          others got each content that the desk had for this person: ask for the next one again
│   ├── KeyInUseError        another request with this idempotency key is being answered
│   └── ShuttingDownError   the worker is draining: the message goes back to the queue
│   Of the engine.
├── EngineGenerateError     one request failed and the engine lives: tried once more, then an outcome
├── EngineDeadError         the engine is dead or hung: the process ends non-zero, nothing is acknowledged
├── NotReadyError           inputs cannot be made ready: vLLM's renderer makes them, and the log says why
│   Of one record of an annotation.
├── NotAnnotatedError       the record gets no explanation: counted with its cause, the others go on
├── MalformedAnswerError    the model is asked again, then NotAnnotatedError
├── RefusedError            at once NotAnnotatedError
├── NotAnsweredError        likewise, after the retries of the client
│   Of a request to the web process.
├── NotLoggedInError        nobody is logged in: the answer leads to the login page
├── ForbiddenError          who asks may not do this
├── CsrfError               the form is not from our own pages
├── WrongFormError          the form asks for something that cannot be: it is shown again with the fault
├── WrongAddressError       we did not make the address of this picture
├── ExpiredAddressError     we did, and it is too old
├── BusyError               too many pictures are under way
├── NotWaitingError         the content does not wait for this person: it can only be looked at
├── ClaimLostError          the person's claim does not hold any more: nothing is stored
├── GoneError               the content left the queue meanwhile
│   Of this code.
└── UndeclaredMetricError   worker/metrics/declared.py does not declare the metric, the label or its value
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why an image has no verdict. The codes are stored, shown and filtered by; they never change meaning."""

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
    """The root of everything this project raises on purpose."""


class ConfigurationError(FakesweepError):
    """A setting is missing or wrong. The text names the setting and the remedy."""


class UsageError(FakesweepError):
    """The command line asks for something that cannot be."""


class SourceError(FakesweepError):
    """The source cannot be read; the text says which and why."""


class UnknownSourceError(SourceError):
    """The source is not there, or nothing that can be listed: bad usage."""


class NoSuchScanError(FakesweepError):
    """There is no scan of that id."""


class ScanStateError(FakesweepError):
    """The scan's status does not allow what a command asks for."""


class NoSuchContentError(FakesweepError):
    """No detector has judged the content, or no scan found it at that uri."""


class NoSuchReviewerError(FakesweepError):
    """There is no reviewer of that name."""


class InactiveReviewerError(FakesweepError):
    """The reviewer is disabled, and reviews nothing more."""


class NoSuchTokenError(FakesweepError):
    """There is no token of that name."""


class KeyReusedError(FakesweepError):
    """The idempotency key belongs to a request with another body."""


class NothingToExportError(FakesweepError):
    """No content has a label."""


class OlderAtWorkError(FakesweepError):
    """A release is connected to the database that does not work with a revision. The text names both."""


class AnnotationStoppedError(FakesweepError):
    """The run ended before its end; the same command goes on with it. The text says why, and what helps."""


class SupersededError(FakesweepError):
    """Another producer has gone on with the scan, or somebody paused or cancelled it."""


class BadRowError(FakesweepError):
    """A row, a line or an argument names no image. The text says what is wrong with it."""


class InvalidMessageError(FakesweepError):
    """A message that does not validate. The text says what is wrong with it."""


class MessageGivenUpError(FakesweepError):
    """A valid message that has expired, or was delivered again and again and never came to an end."""


class ImageError(FakesweepError):
    """This image gets the outcome `failed`.

    `reason` is the stored code, `detail` one line for a person (no secrets, no presigned URLs).
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class TransientError(FakesweepError):
    """Something outside is away for a while."""


class StorageUnavailableError(TransientError):
    """The storage cannot be reached, or refuses for a reason that is not the image's fault."""


class DatabaseUnavailableError(TransientError):
    """Postgres cannot be reached or dropped the connection."""


class BrokerUnavailableError(TransientError):
    """The broker did not take a message."""


class QueueUnavailableError(TransientError):
    """SQS throttles, times out or answers 5xx, after the client's own retries."""


class LockedError(TransientError):
    """Another session holds a lock on the findings; whoever asks again later succeeds."""


class FasterError(TransientError):
    """Others were faster each time that this person was to get a content."""


class KeyInUseError(TransientError):
    """Another request with this idempotency key is being answered."""


class ShuttingDownError(TransientError):
    """The worker was asked to stop before this message's images were started."""


class EngineGenerateError(FakesweepError):
    """The engine could not answer for one image; others are not concerned."""


class EngineDeadError(FakesweepError):
    """The engine will not answer again in this process."""


class NotReadyError(FakesweepError):
    """Why ready inputs cannot be made for a model, or with this vLLM."""


class NotAnnotatedError(FakesweepError):
    """This record gets no explanation; others are not concerned.

    `cause` is a Cause or an AnnotationCause (worker.lab), `detail` one line for a person.
    """

    def __init__(self, cause: StrEnum, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail


class MalformedAnswerError(FakesweepError):
    """An answer that is not the JSON that was asked for. The text says what is wrong with it."""


class RefusedError(FakesweepError):
    """The endpoint does not take this request: others are not concerned."""


class NotAnsweredError(FakesweepError):
    """No answer to this request after all retries: others may have one."""


class NotLoggedInError(FakesweepError):
    """Nobody is logged in: the app answers with the way to the login page."""


class ForbiddenError(FakesweepError):
    """Who asks may not do this. The text says which role may."""


class CsrfError(FakesweepError):
    """The form does not carry the token of the session that sends it, or another site sends it."""


class WrongFormError(FakesweepError):
    """What was given does not do. `field` is the name of the input that it is about."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class WrongAddressError(FakesweepError):
    """We did not make this address, or not for who asks."""


class ExpiredAddressError(FakesweepError):
    """The address was right, and is too old."""


class BusyError(FakesweepError):
    """Too many pictures are under way."""


class NotWaitingError(FakesweepError):
    """The content does not wait for this person: the text says why. It can still be looked at."""


class ClaimLostError(FakesweepError):
    """The person's claim does not hold any more: `holder` has it, or `decided_by` has decided it, or neither."""

    def __init__(self, text: str, *, holder: str | None = None, decided_by: str | None = None) -> None:
        super().__init__(text)
        self.holder = holder
        self.decided_by = decided_by


class GoneError(FakesweepError):
    """The content left the queue meanwhile: the text says why."""


class UndeclaredMetricError(FakesweepError):
    """A metric, a label or a label's value that is not declared. The text names it."""
