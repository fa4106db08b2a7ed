"""Fetches images: fetch(ref) -> bytes, from S3 (worker.s3_store) and from local folders."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from worker.errors import ImageError, Reason, StorageUnavailableError
from worker.files import file_etag, local_path
from worker.messages import ImageRef
from worker.s3_store import S3ImageStore, check_size
from worker.settings import Settings


class ImageStore(Protocol):
    """A place where images are stored."""

    def fetch(self, ref: ImageRef) -> bytes:
        """Returns the object's bytes. Raises ImageError (not_found, access_denied, changed, too_large) or
        StorageUnavailableError.
        """


class LocalImageStore:
    """Files on this machine, `file:///…`."""

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
            # Without blocking, because opening a named pipe would otherwise wait for a writer for ever.
            with open(resolved, "rb", opener=_without_blocking) as file:
                return self._read(file, ref)
        except (FileNotFoundError, NotADirectoryError, RuntimeError) as error:
            raise ImageError(Reason.NOT_FOUND, f"no such file: {path.name}") from error
        except ValueError as error:  # a NUL, which a uri can contain as %00
            raise ImageError(Reason.NOT_FOUND, f"not a possible file name: {error}") from error
        except IsADirectoryError as error:
            raise ImageError(Reason.NOT_AN_IMAGE, "a folder") from error
        except PermissionError as error:
            raise ImageError(Reason.ACCESS_DENIED, f"not readable: {path.name}") from error
        except OSError as error:
            if error.errno in {errno.ENAMETOOLONG, errno.ELOOP}:
                raise ImageError(Reason.NOT_FOUND, f"not a possible file name: {error.strerror}") from error
            raise StorageUnavailableError(f"{type(error).__name__}: {error}") from error

    def _read(self, file: Any, ref: ImageRef) -> bytes:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError(Reason.NOT_AN_IMAGE, "not a regular file")
        if ref.etag and ref.etag != file_etag(facts):
            raise ImageError(Reason.CHANGED, "the file was written to after it was listed")
        check_size(facts.st_size, self._max_bytes)
        data: bytes = file.read(self._max_bytes + 1)
        check_size(len(data), self._max_bytes)
        return data


def _without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


class ImageStores:
    """One store for every kind of uri."""

    def __init__(self, s3: ImageStore, local: ImageStore) -> None:
        self._s3, self._local = s3, local

    def fetch(self, ref: ImageRef) -> bytes:
        """See ImageStore."""
        return (self._s3 if ref.uri.startswith("s3://") else self._local).fetch(ref)


def open_stores(settings: Settings) -> ImageStores:
    """Makes the stores of a process, with the limits of its settings."""
    limits = {"max_bytes": settings.max_bytes}
    return ImageStores(
        S3ImageStore(
            **limits,
            timeout_s=settings.fetch_timeout_s,
            connections=(settings.threads or 32) + settings.live_threads,
            allowed_buckets=settings.allowed_buckets,
        ),
        LocalImageStore(**limits, allowed_folders=settings.allowed_folders),
    )
