"""Replaces and reads whole files, locks them against other processes, and turns paths into uris and back."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import unquote_to_bytes
from uuid import uuid4

from filelock import lock_descriptor

from worker.errors import ConfigurationError
from worker.texts import encoding_of


def lock(file: IO[Any], refusal: str) -> None:
    """Locks an open file for this process alone, until it closes the file or dies. The content of the file does not
    change.

    If another process has locked the file, it does not wait: it raises ConfigurationError with the text `refusal`.
    """
    if not lock_descriptor(file.fileno(), blocking=False):
        raise ConfigurationError(refusal)


@contextmanager
def replacing(path: Path, *, binary: bool = False, errors: str = "strict") -> Iterator[IO[Any]]:
    """Opens a new file, for UTF-8 text or for bytes, that replaces the one at `path` when the block has ended.

    Until then, it is in the same folder under another name with the same suffix. So a reader sees the whole old file or
    the whole new one, even after a kill or a power failure. If the block raises an error, the old file stays and the
    new one is removed. The new file gets the permission bits of the old one. If `path` is a symbolic link, its target
    is replaced. A pipe or a device, such as /dev/stdout, cannot be replaced, so the block writes to it directly.

    Raises OSError, before the block if no file can be written at `path`.
    """
    if path.exists() and not path.is_file():
        with _opened(path.open("wb"), errors, binary=binary) as file:
            yield file
        return
    place = Path(os.path.realpath(path))
    with _named(path):
        half = _half_file(place)
    with _opened(half, errors, binary=binary) as file:
        try:
            _keep_mode(Path(half.name), place)
            yield file
            file.flush()
            os.fsync(file.fileno())
            with _named(path):
                Path(half.name).replace(place)
        except BaseException:
            Path(half.name).unlink(missing_ok=True)
            raise
    _sync(place.parent)


def move_into_place(moves: Mapping[Path, Path]) -> None:
    """Gives finished files and folders their final names, one after the other, once all of them are on the disk.

    A file replaces an existing file of that name, and takes over its permission bits. A folder replaces only an empty
    folder. Raises OSError.
    """
    for finished, place in moves.items():
        for path in (finished, *finished.rglob("*")):
            _sync(path)
        if finished.is_file():
            _keep_mode(finished, place)
    for finished, place in moves.items():
        finished.replace(place)
    for folder in {place.parent for place in moves.values()}:
        _sync(folder)


def _half_file(place: Path) -> BinaryIO:
    """Opens an empty file beside `place` that no other running process writes to.

    A killed process leaves such a file behind. The next writer takes the same file, so that they do not pile up. Only a
    second writer at the same time gets a file with another name.
    """
    half = place.with_name(f".{place.stem}.part{place.suffix}")
    return _taken(half) or place.with_name(f".{place.stem}.{uuid4().hex}.part{place.suffix}").open("xb")


def _taken(half: Path) -> BinaryIO | None:
    """Returns the file `half`, created or emptied. Returns None if a running process writes to it, or if it cannot
    be used.
    """
    try:
        file = half.open("ab")
    except OSError:
        return None
    try:
        if lock_descriptor(file.fileno(), blocking=False) and _is_at(half, file):
            file.truncate(0)
            return file
    except OSError:  # a file system without locks: the next writer could not tell whether we are still running
        half.unlink(missing_ok=True)
    file.close()
    return None


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Returns whether an open file still has this name. Its last writer may have renamed it, or `path` may be a
    link to it.
    """
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    return False


def _opened(file: BinaryIO, errors: str, *, binary: bool) -> IO[Any]:
    return file if binary else TextIOWrapper(file, encoding="utf-8", errors=errors)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Makes errors name the file that the caller knows, and not the temporary one beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _keep_mode(half: Path, place: Path) -> None:
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(place.stat().st_mode)
        if mode != stat.S_IMODE(half.stat().st_mode):
            half.chmod(mode)


def _sync(path: Path) -> None:
    """Flushes a file, or the names in a folder, to the disk (fsync)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        # Some network file systems cannot do this for a folder. What was written is there all the same.
        if not path.is_dir():
            raise


def read_text(path: Path, errors: str = "strict") -> str:
    """Reads a text that a person's editor saved: UTF-8, or the encoding that a byte-order mark names.

    Raises OSError, and UnicodeError (a ValueError) for another encoding.
    """
    with path.open("rb") as file:
        encoding = encoding_of(file.read(4))
    try:
        return path.read_text(encoding=encoding, errors=errors)
    except UnicodeDecodeError as error:
        raise UnicodeError(f"{error}: save it as UTF-8") from None


def local_path(uri: str) -> Path:
    """Returns the path of a `file:///…` uri, with the bytes of its name as they are in the file system.

    Only percent-encoding is undone. Characters that a uri may not contain, such as # and ?, count as part of the name.
    Cutting the name off there would give another file's name.
    """
    return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://"))))


def file_etag(facts: os.stat_result) -> str:
    """Returns the ETag of a local file: the time of its last write in nanoseconds, and its size."""
    return f"{facts.st_mtime_ns:x}-{facts.st_size:x}"
