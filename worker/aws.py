"""Makes clients of S3 and SQS, and says what an error of boto3 or botocore means.

Callers catch AWS_ERRORS, ask diagnose(), and turn the answer into an error of their own. Endpoint, region and
credentials are boto3's settings, and boto3 reads them.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import botocore.session
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    ConnectionError,  # noqa: A004
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import S3DownloadFailedError

from worker.aws_codes import Kind, kind_of
from worker.tls import explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["AWS_ERRORS", "CONNECT_TIMEOUT_S", "Diagnosis", "Kind", "Session", "diagnose", "s3_client", "sqs_client"]

AWS_ERRORS = (BotoCoreError, ClientError, Boto3Error, ResponseParserError, S3DownloadFailedError)
"""All errors that boto3 and botocore raise on purpose. They have no common base class."""

CONNECT_TIMEOUT_S = 5
"""The longest wait for a new connection. A connection is made quickly, or not at all."""
_NO_CLIENT_CERTIFICATES = dict.fromkeys(("cert", "key"), "an endpoint that asks for none (docs/tls.md)")
"""What a remedy says in place of a setting: obstore has no client certificates, so there is no setting for them."""

_USER_AND_PASSWORD = re.compile(r"//[^/@\s\"']*@")


_TYPES: tuple[tuple[type[Exception], Kind], ...] = (
    (S3DownloadFailedError, Kind.CHANGED),
    (ParamValidationError, Kind.BAD_NAME),
    (NoCredentialsError, Kind.NO_CREDENTIALS),
    (PartialCredentialsError, Kind.NO_CREDENTIALS),
    (ConnectionError, Kind.MAY_PASS),
    (HTTPClientError, Kind.MAY_PASS),
    (IncompleteReadError, Kind.MAY_PASS),
    (ChecksumError, Kind.MAY_PASS),
    (FlexibleChecksumError, Kind.MAY_PASS),
    (ResponseParserError, Kind.MAY_PASS),
    (Boto3Error, Kind.MAY_PASS),
    (BotoCoreError, Kind.MISCONFIGURED),  # all others are about settings
)
"""What exceptions mean that are raised without an answer from the service. The first type that matches counts."""


@dataclass(frozen=True)
class Diagnosis:
    """What an error means.

    `answered`: the service sent this error, and `code` is its code. Otherwise `code` is the exception's class name.
    `text` is one line for a person, without passwords; `said` is what the service itself says, which may be nothing.
    """

    kind: Kind
    code: str
    text: str
    answered: bool
    said: str = ""


class EndpointError(BotoCoreError):
    """AWS_ENDPOINT_URL, or the variable for one service, is not a URL. botocore itself only raises a ValueError."""

    fmt = "{said}"


class Session(NamedTuple):
    """What boto3 finds in the environment, in its files and from the machine. Not thread-safe; its clients are."""

    clients: boto3.session.Session
    settings: botocore.session.Session

    @staticmethod
    def new() -> "Session":
        """Returns a session that has not read anything yet."""
        settings = botocore.session.get_session()
        return Session(boto3.session.Session(botocore_session=settings), settings)


def s3_client(
    *,
    timeout_s: float,
    attempts: int = 4,
    connections: int = 10,
    times_as_text: bool = False,
    session: Session | None = None,
) -> "S3Client":
    """Returns a client of S3 for `connections` threads. Raises AWS_ERRORS when one of boto3's settings is wrong.

    `timeout_s` limits the wait for an answer, and for each further part of it; a new connection may take 5 s at most.
    `attempts` is the total number of tries, with pauses that grow. With `times_as_text`, times in answers are not
    parsed: parsing them is three quarters of the work of a listing. Without a `session`, a new one is used.
    """
    session = session or Session.new()
    if times_as_text:
        session.settings.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    client: S3Client = _client("s3", timeout_s, attempts, connections, session)
    return client


def sqs_client(*, timeout_s: float, attempts: int = 4) -> Any:
    """Returns a client of SQS. It has the arguments and errors of s3_client()."""
    return _client("sqs", timeout_s, attempts, connections=10, session=Session.new())


def _client(service: str, timeout_s: float, attempts: int, connections: int, session: Session) -> Any:
    config = Config(
        connect_timeout=min(timeout_s, CONNECT_TIMEOUT_S),
        read_timeout=timeout_s,
        max_pool_connections=connections,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    try:
        return session.clients.client(service, config=config)  # type: ignore[call-overload]
    except BotoCoreError:
        raise
    except ValueError as error:
        raise EndpointError(said=str(error)) from error


def diagnose(error: Exception) -> Diagnosis:
    """Returns what an error of AWS_ERRORS means. Any other error, such as an OSError of the network, is MAY_PASS."""
    text = _USER_AND_PASSWORD.sub("//***@", " ".join(str(error).split()))
    if isinstance(error, SSLError) and (meaning := explained(error, ca="AWS_CA_BUNDLE", **_NO_CLIENT_CERTIFICATES)):
        text = meaning
    if isinstance(error, ClientError):
        told, facts = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
        code = str(told.get("Code", "unknown"))
        said = " ".join(str(told.get("Message") or "").split())
        kind = kind_of(code, facts.get("HTTPStatusCode", 0), f"{said} {told.get('ArgumentName')}")
        return Diagnosis(kind, code, text, answered=True, said=said)
    kind = next((kind for fits, kind in _TYPES if isinstance(error, fits)), Kind.MAY_PASS)
    return Diagnosis(kind, type(error).__name__, text, answered=False)
