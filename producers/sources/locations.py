"""Files that say where images lie, in S3 or on this machine: a local copy to read, and whether they are still the same.

boto3 is imported for those in S3 alone: it takes half a second.
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
    from producers.sources import objects  # noqa: PLC0415 - boto3

    with tempfile.TemporaryFile() as copy:
        objects.download(where.client, where.uri, copy)
        copy.seek(0)
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
    from producers.sources import objects  # noqa: PLC0415 - boto3

    return objects.etag(where.client, where.uri) == where.etag
