"""fetch(ref) -> bytes, from S3 (boto3) and from local folders."""

import errno
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from worker.aws import AWS_ERRORS, Diagnosis, Kind, diagnose, s3_client
from worker.errors import ImageError, Reason, StorageUnavailableError
from worker.messages import ImageRef
from worker.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PERMANENT = {
    Kind.NO_OBJECT: Reason.NOT_FOUND,
    Kind.NO_BUCKET: Reason.NOT_FOUND,
    Kind.BAD_NAME: Reason.NOT_FOUND,
    Kind.ACCESS_DENIED: Reason.ACCESS_DENIED,
    Kind.ARCHIVED: Reason.ACCESS_DENIED,
    Kind.CHANGED: Reason.CHANGED,
}
"""What no retry cures. Everything else may pass, wrong or expired credentials too: they are no fault of the image."""


class ImageStore(Protocol):
    """Where images lie."""

    def fetch(self, ref: ImageRef) -> bytes:
        """The object's bytes.

        Raises ImageError (not_found, access_denied, changed, too_large) or StorageUnavailableError.
        """


class S3ImageStore:
    """Objects of S3 and of everything that speaks its API; endpoint, region and credentials as boto3 finds them."""

    def __init__(
        self, *, max_bytes: int, timeout_s: float = 20, connections: int = 32, allowed_buckets: Sequence[str] = ()
    ) -> None:
        self._max_bytes = max_bytes
        self._allowed = frozenset(allowed_buckets)
        self._timeout_s, self._connections = timeout_s, connections
        self._lock = threading.Lock()
        self._client: S3Client | None = None

    def _s3(self) -> "S3Client":
        # Made late, so that a worker for local files needs no region.
        with self._lock:
            if self._client is None:
                # The client's own attempts are the retries in place.
                self._client = s3_client(timeout_s=self._timeout_s, connections=self._connections)
            return self._client

    def fetch(self, ref: ImageRef) -> bytes:
        """See ImageStore. The listed ETag is sent as If-Match, so that a replaced object is `changed`."""
        bucket, _, key = ref.uri.removeprefix("s3://").partition("/")
        if self._allowed and bucket not in self._allowed:
            raise ImageError(Reason.ACCESS_DENIED, f"bucket {bucket} is not in FAKESWEEP_ALLOWED_BUCKETS")
        condition: dict[str, Any] = {"IfMatch": f'"{ref.etag}"'} if ref.etag else {}
        try:
            answer = self._s3().get_object(Bucket=bucket, Key=key, **condition)
            # Not `with answer["Body"]`: that gives urllib3's stream, which neither checks the length nor maps errors.
            with closing(answer["Body"]) as body:
                _check_size(answer["ContentLength"], self._max_bytes)
                return body.read()
        except (*AWS_ERRORS, OSError) as error:
            raise _error(diagnose(error)) from error


def _error(found: Diagnosis) -> ImageError | StorageUnavailableError:
    said = f"S3 answered {found.code}" if found.answered else f"{found.code}: {found.text}"
    if found.kind not in _PERMANENT:
        return StorageUnavailableError(said)
    if found.kind is Kind.BAD_NAME and not found.answered:
        said = f"no such bucket or key can be: {found.text}"
    return ImageError(_PERMANENT[found.kind], said)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ImageError(Reason.TOO_LARGE, f"{size} bytes or more; the limit is {max_bytes} (FAKESWEEP_MAX_BYTES)")


class LocalImageStore:
    """Files of this machine, `file:///…`."""

    def __init__(self, *, max_bytes: int, allowed_folders: Sequence[str] = ()) -> None:
        self._max_bytes = max_bytes
        self._allowed = tuple(Path(folder) for folder in allowed_folders)

    def fetch(self, ref: ImageRef) -> bytes:
        """See ImageStore."""
        path = local_path(ref.uri)
        try:
            resolved = path.resolve(strict=True)
            if self._allowed and not any(resolved.is_relative_to(folder) for folder in self._allowed):
                raise ImageError(Reason.ACCESS_DENIED, "the file is not in FAKESWEEP_ALLOWED_FOLDERS")
            # Without blocking: opening a named pipe would otherwise wait for a writer for ever.
            with open(resolved, "rb", opener=_without_blocking) as file:
                return self._read(file, ref)
        except (FileNotFoundError, NotADirectoryError, RuntimeError) as error:
            raise ImageError(Reason.NOT_FOUND, f"no such file: {path.name}") from error
        except ValueError as error:  # a NUL, which a uri can spell as %00
            raise ImageError(Reason.NOT_FOUND, f"no such file can be: {error}") from error
        except IsADirectoryError as error:
            raise ImageError(Reason.NOT_AN_IMAGE, "a folder") from error
        except PermissionError as error:
            raise ImageError(Reason.ACCESS_DENIED, f"not readable: {path.name}") from error
        except OSError as error:
            if error.errno in {errno.ENAMETOOLONG, errno.ELOOP}:
                raise ImageError(Reason.NOT_FOUND, f"no such file can be: {error.strerror}") from error
            raise StorageUnavailableError(f"{type(error).__name__}: {error}") from error

    def _read(self, file: Any, ref: ImageRef) -> bytes:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError(Reason.NOT_AN_IMAGE, "not a regular file")
        if ref.etag and ref.etag != file_etag(facts):
            raise ImageError(Reason.CHANGED, "the file was written to after it was listed")
        _check_size(facts.st_size, self._max_bytes)
        data: bytes = file.read(self._max_bytes + 1)
        _check_size(len(data), self._max_bytes)
        return data


def _without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def local_path(uri: str) -> Path:
    """The path of a `file:///…` uri, its bytes as the file system has them."""
    return Path(os.fsdecode(unquote(urlsplit(uri).path, encoding="utf-8", errors="surrogateescape")))


def file_etag(facts: os.stat_result) -> str:
    """What stands for an ETag on a local file: time of the last write in nanoseconds, and size."""
    return f"{facts.st_mtime_ns:x}-{facts.st_size:x}"


class ImageStores:
    """One store for every kind of uri."""

    def __init__(self, s3: ImageStore, local: ImageStore) -> None:
        self._s3, self._local = s3, local

    def fetch(self, ref: ImageRef) -> bytes:
        """See ImageStore."""
        return (self._s3 if ref.uri.startswith("s3://") else self._local).fetch(ref)


def open_stores(settings: Settings) -> ImageStores:
    """The stores of a process, with the limits that its settings give."""
    limits = {"max_bytes": settings.max_bytes}
    return ImageStores(
        S3ImageStore(
            **limits,
            timeout_s=settings.fetch_timeout_s,
            connections=settings.threads or 32,
            allowed_buckets=settings.allowed_buckets,
        ),
        LocalImageStore(**limits, allowed_folders=settings.allowed_folders),
    )
