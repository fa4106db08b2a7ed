"""kind_of() says what an error code of S3 or SQS means.

S3's codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. The lists of MinIO
(`cmd/api-errors.go`), Ceph and StorageGRID have a few more.
"""

import re
from enum import Enum, auto
from http import HTTPStatus


class Kind(Enum):
    """What an error means. Callers act differently on each kind."""

    NO_OBJECT = auto()  # no object has this key, or no object can have it
    NO_BUCKET = auto()
    NO_QUEUE = auto()
    ACCESS_DENIED = auto()  # because of a policy, or because the encryption key is not available
    ARCHIVED = auto()  # the object is there, but must be restored before anybody can read it
    CHANGED = auto()  # the object is no longer the version that was asked for
    BAD_NAME = auto()  # no bucket can have this name
    NO_CREDENTIALS = auto()
    MISCONFIGURED = auto()  # a setting is wrong: profile, region, endpoint
    REFUSED = auto()  # credentials, clock, region or another setting are wrong: the object is not the cause
    MAY_PASS = auto()  # 5xx, throttling, the network, an answer that was cut off


_BY_KIND = {
    Kind.NO_OBJECT: (
        "NoSuchKey", "NoSuchVersion", "KeyTooLongError", "KeyTooLong", "InvalidURI", "InvalidArgument",
        "InvalidObjectName", "InvalidRange", "XMinioInvalidObjectName", "XMinioInvalidResourceName",
        "XMinioParentIsObject", "XMinioObjectExistsAsDirectory",
    ),
    Kind.NO_BUCKET: ("NoSuchBucket", "NoSuchAccessPoint"),
    Kind.BAD_NAME: ("InvalidBucketName",),
    Kind.NO_QUEUE: ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"),
    Kind.ACCESS_DENIED: (
        "AccessDenied", "AccessDeniedException", "AllAccessDisabled", "InvalidPayer", "MethodNotAllowed",
        # With SSE-C, each request for an object must send the key that it was encrypted with. We do not have this key.
        "InvalidRequest", "InvalidEncryptionAlgorithmError", "InvalidSSECustomerAlgorithm", "XMinioObjectTampered",
    ),
    Kind.ARCHIVED: ("InvalidObjectState", "ObjectNotInActiveTierError"),
    Kind.CHANGED: ("PreconditionFailed",),
    Kind.MISCONFIGURED: ("InvalidAddress", "InvalidSecurity", "UnsupportedOperation"),  # SQS: URL, signature, queue
    Kind.REFUSED: (
        "AccountProblem", "NotSignedUp", "OptInRequired", "UserSuspended", "AuthorizationHeaderMalformed",
        "CredentialsNotSupported", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId",
        "InvalidClientTokenId", "InvalidToken", "MissingAuthenticationToken", "MissingSecurityHeader", "RequestExpired",
        "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "UnauthorizedAccess",
        "UnrecognizedClientException", "XAmzContentSHA256Mismatch", "XMinioInsecureClientRequest",
    ),
    # Errors with 4xx after which botocore itself tries again (botocore/retries/standard.py).
    Kind.MAY_PASS: (
        "RequestTimeout", "RequestTimeoutException", "RequestThrottled", "RequestThrottledException", "SlowDown",
        "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
    ),
}  # fmt: skip
_CODES = {code: kind for kind, codes in _BY_KIND.items() for code in codes}

_KMS = re.compile(r"(?:XMinio)?KMS", re.IGNORECASE)
"""Codes that S3 passes on from KMS: KMS.DisabledException, KMS.NotFoundException, KMS.KMSInvalidStateException, …"""
_PASSING = re.compile(r"Throttl|Internal|Time|Unavailable|Limit")

_OF_THE_SENDER = re.compile(r"authorization|AWS4-HMAC|signature|content-sha256|accelerat", re.IGNORECASE)
"""Found in S3's text for InvalidRequest and InvalidArgument if our request is wrong, and not the object."""

_BY_STATUS: dict[int, Kind] = {
    HTTPStatus.NOT_FOUND: Kind.NO_OBJECT,  # the answer to a HEAD request has no body, so the status is its only code
    HTTPStatus.GONE: Kind.NO_OBJECT,
    HTTPStatus.REQUEST_URI_TOO_LONG: Kind.NO_OBJECT,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: Kind.NO_OBJECT,
    HTTPStatus.FORBIDDEN: Kind.ACCESS_DENIED,
    HTTPStatus.METHOD_NOT_ALLOWED: Kind.ACCESS_DENIED,
    HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS: Kind.ACCESS_DENIED,
    HTTPStatus.PRECONDITION_FAILED: Kind.CHANGED,
    HTTPStatus.REQUEST_TIMEOUT: Kind.MAY_PASS,
    HTTPStatus.CONFLICT: Kind.MAY_PASS,
    HTTPStatus.TOO_EARLY: Kind.MAY_PASS,
    HTTPStatus.TOO_MANY_REQUESTS: Kind.MAY_PASS,
}


def kind_of(code: str, status: int, said: str) -> Kind:
    """Returns what an answer with this code, HTTP status and text means. For an unknown code, the status decides."""
    if _KMS.match(code):
        return Kind.MAY_PASS if _PASSING.search(code) else Kind.ACCESS_DENIED
    if code in {"InvalidRequest", "InvalidArgument"} and _OF_THE_SENDER.search(said):
        return Kind.REFUSED
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _CODES.get(code, Kind.MAY_PASS)
    return _CODES.get(code) or _BY_STATUS.get(status, Kind.REFUSED)
