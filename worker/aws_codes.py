"""The error codes of S3 and SQS, and what each of them means.

S3's own: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; MinIO's `cmd/api-errors.go`, Ceph's and
StorageGRID's lists have a few more.
"""

import re
from enum import Enum, auto
from http import HTTPStatus


class Kind(Enum):
    """What an error means, as far as callers act on it in different ways."""

    NO_OBJECT = auto()  # nothing has that key, or nothing can have it
    NO_BUCKET = auto()
    NO_QUEUE = auto()
    ACCESS_DENIED = auto()  # by a policy, or because its key of encryption is not to be had
    ARCHIVED = auto()  # it is there, and must be restored before anybody can read it
    CHANGED = auto()  # it is no longer the version that was asked for
    BAD_NAME = auto()  # no bucket can have that name
    NO_CREDENTIALS = auto()
    MISCONFIGURED = auto()  # a setting is wrong: profile, region, endpoint
    REFUSED = auto()  # credentials, clock, region or another setting are wrong: no object is at fault
    MAY_PASS = auto()  # 5xx, throttling, the network, an answer that broke off


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
        # The key that an object was encrypted with (SSE-C) must come with each request for it, and we have none.
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
    # 4xx after which botocore itself tries again (botocore/retries/standard.py).
    Kind.MAY_PASS: (
        "RequestTimeout", "RequestTimeoutException", "RequestThrottled", "RequestThrottledException", "SlowDown",
        "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
    ),
}  # fmt: skip
_CODES = {code: kind for kind, codes in _BY_KIND.items() for code in codes}

_KMS = re.compile(r"(?:XMinio)?KMS", re.IGNORECASE)
"""S3 hands on what KMS said: KMS.DisabledException, KMS.NotFoundException, KMS.KMSInvalidStateException, …"""
_PASSING = re.compile(r"Throttl|Internal|Time|Unavailable|Limit")

_OF_THE_SENDER = re.compile(r"authorization|AWS4-HMAC|signature|content-sha256|accelerat", re.IGNORECASE)
"""In what S3 says with InvalidRequest and InvalidArgument, when it does not like how we ask, whatever the object."""

_BY_STATUS: dict[int, Kind] = {
    HTTPStatus.NOT_FOUND: Kind.NO_OBJECT,  # the answer to a HEAD has no body, and so no code but its status
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
    """What an answer with this code, this HTTP status and this text means. For an unknown code the status decides."""
    if _KMS.match(code):
        return Kind.MAY_PASS if _PASSING.search(code) else Kind.ACCESS_DENIED
    if code in {"InvalidRequest", "InvalidArgument"} and _OF_THE_SENDER.search(said):
        return Kind.REFUSED
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _CODES.get(code, Kind.MAY_PASS)
    return _CODES.get(code) or _BY_STATUS.get(status, Kind.REFUSED)
