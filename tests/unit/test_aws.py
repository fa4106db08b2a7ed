"""The meaning of errors of boto3 and botocore, and the limits of the clients."""

from typing import Any

import pytest
from boto3.exceptions import Boto3Error, RetriesExceededError
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError
from s3transfer.exceptions import S3DownloadFailedError

from worker.aws import AWS_ERRORS, Kind, diagnose, s3_client, sqs_client


def answer(code: str | None, status: int = 400) -> botocore.ClientError:
    told: Any = {"Error": {"Message": "so\nit is"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    if code is not None:
        told["Error"]["Code"] = code
    return botocore.ClientError(told, "GetObject")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("NoSuchKey", 404, Kind.NO_OBJECT),
        ("NoSuchVersion", 404, Kind.NO_OBJECT),
        ("404", 404, Kind.NO_OBJECT),
        ("KeyTooLongError", 400, Kind.NO_OBJECT),
        ("NoSuchBucket", 404, Kind.NO_BUCKET),
        ("InvalidBucketName", 400, Kind.BAD_NAME),
        ("QueueDoesNotExist", 400, Kind.NO_QUEUE),
        ("AWS.SimpleQueueService.NonExistentQueue", 400, Kind.NO_QUEUE),
        ("AccessDenied", 403, Kind.ACCESS_DENIED),
        ("AccessDeniedException", 400, Kind.ACCESS_DENIED),
        ("AllAccessDisabled", 403, Kind.ACCESS_DENIED),
        ("403", 403, Kind.ACCESS_DENIED),
        ("InvalidObjectState", 403, Kind.ARCHIVED),
        ("PreconditionFailed", 412, Kind.CHANGED),
        ("412", 412, Kind.CHANGED),
        ("410", 410, Kind.NO_OBJECT),
        ("414", 414, Kind.NO_OBJECT),
        ("InvalidRange", 416, Kind.NO_OBJECT),
        ("405", 405, Kind.ACCESS_DENIED),
        ("451", 451, Kind.ACCESS_DENIED),
        ("Forbidden", 403, Kind.ACCESS_DENIED),
        ("InvalidRequest", 400, Kind.ACCESS_DENIED),
        ("InvalidArgument", 400, Kind.NO_OBJECT),
        ("KMS.DisabledException", 400, Kind.ACCESS_DENIED),
        ("KMS.NotFoundException", 400, Kind.ACCESS_DENIED),
        ("KMS.KMSInvalidStateException", 400, Kind.ACCESS_DENIED),
        ("KmsAccessDenied", 400, Kind.ACCESS_DENIED),
        ("KMS.ThrottlingException", 400, Kind.MAY_PASS),
        ("KMS.KMSInternalException", 500, Kind.MAY_PASS),
        ("KMS.KeyUnavailableException", 500, Kind.MAY_PASS),
        ("ObjectNotInActiveTierError", 403, Kind.ARCHIVED),
        ("RequestTimeTooSkewed", 403, Kind.REFUSED),
        ("AuthorizationHeaderMalformed", 400, Kind.REFUSED),
        ("InvalidToken", 400, Kind.REFUSED),
        ("NotSignedUp", 403, Kind.REFUSED),
        ("401", 401, Kind.REFUSED),
        ("ConditionalRequestConflict", 409, Kind.MAY_PASS),
        ("InvalidAddress", 404, Kind.MISCONFIGURED),
        ("InvalidSecurity", 403, Kind.MISCONFIGURED),
        ("UnsupportedOperation", 400, Kind.MISCONFIGURED),
        ("ExpiredToken", 400, Kind.REFUSED),
        ("ExpiredTokenException", 403, Kind.REFUSED),
        ("InvalidAccessKeyId", 403, Kind.REFUSED),
        ("SignatureDoesNotMatch", 403, Kind.REFUSED),
        ("PermanentRedirect", 301, Kind.REFUSED),
        ("400", 400, Kind.REFUSED),
        (None, 400, Kind.REFUSED),
        ("SlowDown", 503, Kind.MAY_PASS),
        ("RequestThrottled", 400, Kind.MAY_PASS),
        ("ThrottlingException", 400, Kind.MAY_PASS),
        ("RequestTimeout", 400, Kind.MAY_PASS),
        ("429", 429, Kind.MAY_PASS),
        ("InternalError", 500, Kind.MAY_PASS),
        ("anything", 503, Kind.MAY_PASS),
        (None, 502, Kind.MAY_PASS),
    ],
)
def test_errors_in_answers_of_the_service(code: str | None, status: int, kind: Kind) -> None:
    found = diagnose(answer(code, status))
    assert (found.kind, found.code, found.answered) == (kind, code or "unknown", True)
    assert found.text.endswith("so it is")


@pytest.mark.parametrize("code", ["InvalidRequest", "InvalidArgument"])
@pytest.mark.parametrize(
    ("said", "of_the_object"),
    [
        ("The object was stored using a form of Server Side Encryption.", True),
        ("The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.", False),
        ("Missing required header for this request: x-amz-content-sha256", False),
        ("S3 Transfer Acceleration is not configured on this bucket", False),
        ("Unsupported Authorization Type", False),
    ],
)
def test_an_error_about_our_request_is_no_fault_of_the_object(code: str, said: str, of_the_object: bool) -> None:
    told: Any = {"Error": {"Code": code, "Message": said, "Key": "signature.jpg"}}
    error = botocore.ClientError(told | {"ResponseMetadata": {"HTTPStatusCode": 400}}, "GetObject")
    found = diagnose(error)
    assert (found.kind is not Kind.REFUSED) == of_the_object
    assert found.said == said


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (botocore.ParamValidationError(report="Invalid bucket name"), Kind.BAD_NAME),
        (botocore.NoCredentialsError(), Kind.NO_CREDENTIALS),
        (botocore.PartialCredentialsError(provider="env", cred_var="x"), Kind.NO_CREDENTIALS),
        (botocore.ProfileNotFound(profile="x"), Kind.MISCONFIGURED),
        (botocore.NoRegionError(), Kind.MISCONFIGURED),
        (botocore.InvalidRegionError(region_name="x y"), Kind.MISCONFIGURED),
        (botocore.CredentialRetrievalError(provider="x", error_msg="y"), Kind.MISCONFIGURED),
        (botocore.EndpointConnectionError(endpoint_url="http://x"), Kind.MAY_PASS),
        (botocore.ConnectTimeoutError(endpoint_url="http://x"), Kind.MAY_PASS),
        (botocore.ReadTimeoutError(endpoint_url="http://x"), Kind.MAY_PASS),
        (botocore.ConnectionClosedError(endpoint_url="http://x"), Kind.MAY_PASS),
        (botocore.ProxyConnectionError(proxy_url="http://x"), Kind.MAY_PASS),
        (botocore.SSLError(endpoint_url="http://x", error=OSError()), Kind.MAY_PASS),
        (botocore.ResponseStreamingError(error="x"), Kind.MAY_PASS),
        (botocore.IncompleteReadError(actual_bytes=1, expected_bytes=2), Kind.MAY_PASS),
        (botocore.FlexibleChecksumError(error_msg="x"), Kind.MAY_PASS),
        (ResponseParserError("x"), Kind.MAY_PASS),
        (RetriesExceededError(Boto3Error()), Kind.MAY_PASS),
        (Boto3Error("x"), Kind.MAY_PASS),
        (S3DownloadFailedError("x"), Kind.CHANGED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_without_an_answer(error: Exception, kind: Kind) -> None:
    found = diagnose(error)
    assert (found.kind, found.code, found.answered) == (kind, type(error).__name__, False)
    assert isinstance(error, AWS_ERRORS)


def test_errors_of_other_libraries_are_left_to_the_caller() -> None:
    found = diagnose(ConnectionResetError(104, "reset"))
    assert (found.kind, found.code, found.text) == (Kind.MAY_PASS, "ConnectionResetError", "[Errno 104] reset")
    assert not isinstance(ConnectionResetError(), AWS_ERRORS)


def test_a_password_in_an_endpoint_is_not_shown() -> None:
    found = diagnose(botocore.EndpointConnectionError(endpoint_url="https://user:secret@host:9000/b/k@2.jpg"))
    assert found.text == 'Could not connect to the endpoint URL: "https://***@host:9000/b/k@2.jpg"'


def test_limits_reach_the_clients(s3_environment: str) -> None:
    config: Any = s3_client(timeout_s=2, attempts=6, connections=3).meta.config
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (2, 2, 3)
    assert config.retries == {"mode": "standard", "total_max_attempts": 6}
    config = sqs_client(timeout_s=40).meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 40)
    assert config.retries == {"mode": "standard", "total_max_attempts": 4}


def test_times_are_parsed_unless_the_client_wants_text(bucket: str) -> None:
    client = s3_client(timeout_s=20)
    client.put_object(Bucket=bucket, Key="x", Body=b"x")
    assert client.head_object(Bucket=bucket, Key="x")["LastModified"].year > 2000
    quick = s3_client(timeout_s=20, times_as_text=True)
    assert isinstance(quick.head_object(Bucket=bucket, Key="x")["LastModified"], str)


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ENDPOINT_URL", "nonsense"), ("AWS_PROFILE", "nobody"), ("AWS_REGION", "x y")]
)
def test_a_wrong_setting_is_an_error_when_a_client_is_made(
    name: str, value: str, s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for foreign in ("AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(foreign, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", value if name == "AWS_REGION" else "us-east-1")
    with pytest.raises(AWS_ERRORS) as raised:
        s3_client(timeout_s=1)
    found = diagnose(raised.value)
    assert (found.kind, found.answered) == (Kind.MISCONFIGURED, False)
    assert value in found.text
