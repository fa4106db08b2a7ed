"""Files that say where images lie, in S3 or on this machine: whether they are there, and a local copy to read."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from boto3.s3.transfer import TransferConfig

from worker import aws
from worker.aws import AWS_ERRORS, Kind, diagnose
from worker.errors import SourceError, UnknownSourceError
from worker.storage import file_etag

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 8
"""Requests that run at once. Reading an answer keeps the interpreter busy: more of them list no faster."""

S3_ERRORS = (*AWS_ERRORS, OSError)

_REMEDIES = {
    Kind.ACCESS_DENIED: "grant s3:ListBucket and s3:GetObject",
    Kind.NO_BUCKET: "check the bucket's name",
    Kind.BAD_NAME: "check the bucket's name",
    Kind.NO_CREDENTIALS: "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    Kind.MISCONFIGURED: "set the AWS_… variables that boto3 knows",
}


def s3_client(threads: int = THREADS) -> "S3Client":
    """A client for `threads` threads; endpoint, region and credentials as boto3 finds them. Raises SourceError."""
    try:
        # Nobody reads when a key was last written.
        return aws.s3_client(timeout_s=60, attempts=6, connections=threads, times_as_text=True)
    except AWS_ERRORS as error:
        raise s3_error("s3", error) from error


def s3_error(uri: str, error: Exception) -> SourceError:
    """What S3 or the way to it has against `uri`, in one line with a remedy: an UnknownSourceError if there is no such
    bucket.
    """
    found = diagnose(error)
    kind = UnknownSourceError if found.kind in {Kind.NO_BUCKET, Kind.BAD_NAME} else SourceError
    # botocore puts its regular expressions for a name into its own error's text.
    own = found.kind is Kind.BAD_NAME and not found.answered
    text = "no bucket has such a name" if own else found.text
    return kind(f"{uri}: cannot be read: {text}: {_REMEDIES.get(found.kind, 'try again later')}")


@dataclass(frozen=True)
class Location:
    """Where a file lies: in S3 with a client, else at a path. `etag` as it was when it was looked for."""

    uri: str
    etag: str
    path: Path | None = None
    client: "S3Client | None" = None

    @property
    def name(self) -> str:
        """The last part of its key or path."""
        return self.path.name if self.path else self.uri.rpartition("/")[2]


def local(path: Path) -> Location:
    """A file of this machine. Raises OSError."""
    return Location(uri=str(path), etag=file_etag(path.stat()), path=path)


def head(client: "S3Client", bucket: str, key: str) -> Location | None:
    """The object with exactly that key, if there is one. Raises SourceError."""
    uri = f"s3://{bucket}/{key}"
    try:
        answer = client.head_object(Bucket=bucket, Key=key)
    except S3_ERRORS as error:
        if diagnose(error).kind is Kind.NO_OBJECT:
            return None  # perhaps no such bucket either: whoever lists it will hear so
        raise s3_error(uri, error) from error
    # A store that tells no ETag tells when it was written.
    etag = answer.get("ETag") or f"{answer.get('LastModified')} {answer.get('ContentLength')}"
    return Location(uri=uri, etag=etag.strip('"'), client=client)


def _opened(where: Location) -> BinaryIO:
    try:
        return (where.path or Path(where.uri)).open("rb")
    except OSError as error:
        raise SourceError(
            f"{where.uri}: cannot be read: {error.strerror}: check its name and its permissions"
        ) from error


@contextmanager
def copied(where: Location) -> Iterator[BinaryIO]:
    """A local copy, open at its start and without a name: of a process that is killed, nothing stays behind. A file of
    this machine is its own. Raises SourceError.
    """
    if where.client is None:
        with _opened(where) as file:
            yield file
        return
    bucket, _, key = where.uri.removeprefix("s3://").partition("/")
    with tempfile.TemporaryFile() as copy:
        try:
            where.client.download_fileobj(bucket, key, copy, Config=TransferConfig(max_concurrency=THREADS))
            copy.seek(0)
        except S3_ERRORS as error:
            raise s3_error(where.uri, error) from error
        yield copy


def unchanged(where: Location) -> bool:
    """Whether what lies there is still what was found. Raises SourceError."""
    if where.path is not None:
        try:
            return file_etag(where.path.stat()) == where.etag
        except OSError as error:
            raise SourceError(f"{where.uri}: cannot be read: {error.strerror}: put it back") from error
    if where.client is None:
        return False
    bucket, _, key = where.uri.removeprefix("s3://").partition("/")
    found = head(where.client, bucket, key)
    return found is not None and found.etag == where.etag
