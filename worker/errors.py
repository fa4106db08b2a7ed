"""The error tree, split by what the worker does with an error.

FakesweepError
├── ConfigurationError      the operator must change a setting: one line on stderr, exit code 2
├── NoSuchScanError         a command names a scan that is not there
├── ScanStateError          a command asks of a scan what its status does not allow
├── InvalidMessageError     the message can never be understood: dead-lettered with the reason
├── ImageError              permanent: this image's outcome is `failed` with the reason code
├── TransientError          may pass by itself: retried in place, then published again with a delay
│   ├── StorageUnavailableError
│   ├── DatabaseUnavailableError
│   ├── BrokerUnavailableError
│   └── ShuttingDownError   the worker is draining: the message goes back to the queue
├── EngineGenerateError     one request failed and the engine lives: tried once more, then an outcome
└── EngineDeadError         the engine is dead or hung: the process ends non-zero, nothing is acknowledged
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why an image has no verdict. The codes are stored, shown and filtered by; they never change meaning."""

    NOT_FOUND = "not_found"
    ACCESS_DENIED = "access_denied"
    CHANGED = "changed"  # the object's ETag is no longer the listed one
    TOO_LARGE = "too_large"  # more bytes than FAKESWEEP_MAX_BYTES
    TOO_MANY_PIXELS = "too_many_pixels"  # more pixels than FAKESWEEP_MAX_PIXELS
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


class NoSuchScanError(FakesweepError):
    """There is no scan of that id."""


class ScanStateError(FakesweepError):
    """The scan's status does not allow what a command asks for."""


class InvalidMessageError(FakesweepError):
    """A message that does not validate. The text says what is wrong with it."""


class ImageError(FakesweepError):
    """This image can never be judged as it is.

    `reason` is the stored code, `detail` one line for a person (no secrets, no presigned URLs).
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class TransientError(FakesweepError):
    """Something outside is away for a while."""


class StorageUnavailableError(TransientError):
    """S3 throttles, times out or answers 5xx, after the client's own retries."""


class DatabaseUnavailableError(TransientError):
    """Postgres cannot be reached or dropped the connection."""


class BrokerUnavailableError(TransientError):
    """The broker did not take a message."""


class ShuttingDownError(TransientError):
    """The worker was asked to stop before this message's images were started."""


class EngineGenerateError(FakesweepError):
    """The engine could not answer for one image; others are not concerned."""


class EngineDeadError(FakesweepError):
    """The engine will not answer again in this process."""
