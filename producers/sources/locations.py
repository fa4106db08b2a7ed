"""Files in S3 or on this machine that say where images are: makes a local copy, and checks that they are unchanged.

boto3 is imported only for files in S3, because that takes 0.5 s.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from worker.errors import SourceError
from worker.files import file_etag

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Location:
    """The place of a file: in S3 with a client, otherwise at a path. `etag` is from when it was found."""

    uri: str
    etag: str
    path: Path | None = None
    client: "S3Client | None" = None

    @property
    def name(self) -> str:
        """The last part of the key or path."""
        return self.path.name if self.path else self.uri.rpartition("/")[2]


def local(path: Path) -> Location:
    """Returns the location of a file of this machine. Raises OSError."""
    return Location(uri=str(path), etag=file_etag(path.stat()), path=path)


def _opened(where: Location) -> BinaryIO:
    try:
        return (where.path or Path(where.uri)).open("rb")
    except OSError as error:
        raise SourceError(
            f"{where.uri}: cannot be read: {error.strerror}: check its name and its permissions"
        ) from error


@contextmanager
def copied(where: Location) -> Iterator[BinaryIO]:
    """Opens a local copy at its start. It has no name, so a process that is killed leaves nothing behind. A file of
    this machine is not copied. Raises SourceError.
    """
    if where.client is None:
        with _opened(where) as file:
            yield file
        return
    from producers.sources import objects  # noqa: PLC0415 - boto3

    with tempfile.TemporaryFile() as copy:
        objects.download(where.client, where.uri, copy)
        copy.seek(0)
        yield copy


def unchanged(where: Location) -> bool:
    """Whether the file is still the one that was found. Raises SourceError."""
    if where.path is not None:
        try:
            return file_etag(where.path.stat()) == where.etag
        except OSError as error:
            raise SourceError(f"{where.uri}: cannot be read: {error.strerror}: put it back") from error
    if where.client is None:
        return False
    from producers.sources import objects  # noqa: PLC0415 - boto3

    return objects.etag(where.client, where.uri) == where.etag
