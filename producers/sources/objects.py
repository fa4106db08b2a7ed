"""Single objects of S3, and the meaning of S3's errors for a source."""

from typing import TYPE_CHECKING, BinaryIO

from boto3.s3.transfer import TransferConfig

from worker import aws
from worker.aws import AWS_ERRORS, Kind, diagnose
from worker.errors import SourceError, UnknownSourceError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 8
"""Requests that run at once. Reading an answer keeps the interpreter busy, so more of them would be no faster."""

S3_ERRORS = (*AWS_ERRORS, OSError)

_REMEDIES = {
    Kind.ACCESS_DENIED: "grant s3:ListBucket and s3:GetObject",
    Kind.NO_BUCKET: "check the bucket's name",
    Kind.BAD_NAME: "check the bucket's name",
    Kind.NO_CREDENTIALS: "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    Kind.MISCONFIGURED: "set the AWS_… variables that boto3 knows",
}


def s3_client(threads: int = THREADS) -> "S3Client":
    """Returns a client for `threads` threads. boto3 finds endpoint, region and credentials. Raises SourceError."""
    try:
        # Nobody reads the time at which a key was last written.
        return aws.s3_client(timeout_s=60, attempts=6, connections=threads, times_as_text=True)
    except AWS_ERRORS as error:
        raise s3_error("s3", error) from error


def s3_error(uri: str, error: Exception) -> SourceError:
    """Makes the error for `uri`: one line with cause and remedy. It is an UnknownSourceError if the bucket does not
    exist.
    """
    found = diagnose(error)
    kind = UnknownSourceError if found.kind in {Kind.NO_BUCKET, Kind.BAD_NAME} else SourceError
    # botocore puts its regular expressions for names into the text of its own error.
    own = found.kind is Kind.BAD_NAME and not found.answered
    text = "a bucket cannot have this name" if own else found.text
    return kind(f"{uri}: cannot be read: {text}: {_REMEDIES.get(found.kind, 'try again later')}")


def etag(client: "S3Client", uri: str) -> str | None:
    """Returns the ETag of the object with exactly this uri, or None if there is none. Raises SourceError."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        answer = client.head_object(Bucket=bucket, Key=key)
    except S3_ERRORS as error:
        if diagnose(error).kind is Kind.NO_OBJECT:
            return None  # perhaps the bucket does not exist either: listing it will show that
        raise s3_error(uri, error) from error
    # If a store gives no ETag, use the time of the last write and the length.
    told = answer.get("ETag") or f"{answer.get('LastModified')} {answer.get('ContentLength')}"
    return told.strip('"')


def download(client: "S3Client", uri: str, file: BinaryIO) -> None:
    """Writes the object to the file. Raises SourceError."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        client.download_fileobj(bucket, key, file, Config=TransferConfig(max_concurrency=THREADS))
    except S3_ERRORS as error:
        raise s3_error(uri, error) from error
