"""Whether S3 can be used: endpoint, credentials, and each bucket."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from producers.checking.hosts import is_near
from producers.checking.rows import HANDLES_IMAGES, Check, Row, Subject, ok, skipped, warning, wrong

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from worker.aws import Diagnosis

TIMEOUT_S = 5.0
_NO_OBJECT = "fakesweep-check-no-such-object"
"""A key that is asked for in an empty bucket: the answer says whether the right to read is there."""
_MEND = "check AWS_ENDPOINT_URL_S3, AWS_REGION and the credentials"


def _client() -> "S3Client":
    from worker.aws import s3_client

    return s3_client(timeout_s=TIMEOUT_S, attempts=2)


def _credentials(_: Subject) -> Iterator[Row]:
    from worker.aws import AWS_ERRORS, Session, diagnose

    try:
        found = Session.new().clients.get_credentials()
        if found is not None:
            found.get_frozen_credentials()
    except AWS_ERRORS as error:
        yield wrong(diagnose(error).text, "correct the AWS_… variables or files that boto3 reads")
        return
    if found is None:
        yield wrong("none", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine or pod a role")
    else:
        yield ok(f"found by boto3: {found.method}")


def _endpoint(_: Subject) -> Iterator[Row]:
    """Any answer of S3 is enough, because the right to read a bucket does not include the right to list all buckets."""
    from worker.aws import AWS_ERRORS, Kind, diagnose

    try:
        client = _client()
        client.list_buckets()
    except AWS_ERRORS as error:
        found = diagnose(error)
        if found.kind is not Kind.ACCESS_DENIED:
            yield _fault(found)
            return
    yield _answers(str(client.meta.endpoint_url))


def _answers(url: str) -> Row:
    from urllib.parse import urlsplit

    if urlsplit(url).scheme == "https" or is_near(urlsplit(url).hostname):
        return ok(url)
    return warning(f"{url} answers, and is not encrypted", "use an https:// endpoint (docs/tls.md)")


def _buckets(subject: Subject) -> Iterator[Row]:
    names = [subject.bucket] if subject.bucket else subject.settings.allowed_buckets
    if not names:
        yield skipped("FAKESWEEP_ALLOWED_BUCKETS is not set: name a bucket with --bucket")
    client = _client() if names else None
    for name in names:
        yield _bucket(client, name)


def _bucket(client: Any, name: str) -> Row:
    from worker.aws import AWS_ERRORS, Kind, diagnose

    try:
        listed = client.list_objects_v2(Bucket=name, MaxKeys=1).get("Contents", [])
    except AWS_ERRORS as error:
        return _fault(diagnose(error), name, "s3:ListBucket")
    key = listed[0]["Key"] if listed else _NO_OBJECT
    try:
        client.get_object(Bucket=name, Key=key)["Body"].close()
    except AWS_ERRORS as error:
        found = diagnose(error)
        if not (found.kind is Kind.NO_OBJECT and not listed):
            return _fault(found, name, "s3:GetObject")
    return ok("may list and get" + ("" if listed else "; it is empty"), name)


def _fault(found: "Diagnosis", name: str = "", action: str = "") -> Row:
    from worker.aws import Kind

    remedies = {
        Kind.ACCESS_DENIED: f"allow {action} to these credentials, for objects of this bucket too",
        Kind.NO_BUCKET: "correct the bucket's name in FAKESWEEP_ALLOWED_BUCKETS or --bucket",
        Kind.BAD_NAME: "correct the bucket's name in FAKESWEEP_ALLOWED_BUCKETS or --bucket",
        Kind.NO_CREDENTIALS: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine or pod a role",
    }
    return wrong(found.text, remedies.get(found.kind, _MEND), name)


CHECKS = (
    Check("s3 credentials", _credentials, _MEND, needed_by=HANDLES_IMAGES),
    Check("s3 endpoint", _endpoint, _MEND, after="s3 credentials", needed_by=HANDLES_IMAGES),
    Check("bucket", _buckets, _MEND, after="s3 endpoint", needed_by=HANDLES_IMAGES),
)
