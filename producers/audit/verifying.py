"""Verifies a package, offline and in one pass, and a second one over its rows. Memory does not grow with the package.

statement: signature --> manifest --> each entry: header, size, SHA-256 --> directory, end --> rows agree
"""

import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from producers.audit import container
from producers.audit.agreement import check_rows
from producers.audit.container import CHUNK, Entry
from producers.audit.locating import Locator, differs_at
from producers.audit.manifest import MANIFEST, MOST_BYTES, STATEMENT, File, Manifest, read_manifest
from producers.audit.ranges import part_of
from producers.audit.statement import Envelope, statement_of
from worker.errors import PackageDoubtError


@dataclass(frozen=True)
class Verified:
    """A package in which nothing is in doubt. `predicate` is what its statement says about it. `sha256` is that of the
    whole file.
    """

    sha256: str
    keyid: str
    files: int
    predicate: dict[str, Any]


def verify(path: Path, public_key: Ed25519PublicKey | None = None, after: Path | None = None) -> Verified:
    """Checks every byte of a package. Without a public key, the key that the package names is used: anybody can have
    made such a package.

    With `after`, the package must name that file as the one before it. Raises PackageDoubtError with the first place
    of doubt, and OSError if a file cannot be read.
    """
    with path.open("rb") as file:
        reader = _Reader(file)
        envelope = Envelope(reader.small(STATEMENT))
        envelope.check(public_key or envelope.own_key())
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        manifest = _manifest(reader, envelope)
        for described in manifest.files:
            reader.check(described, manifest)
        reader.check_end()
        check_rows(manifest, reader.opened)
    if after is not None:
        _check_chain(envelope, after)
    return Verified(sha256, envelope.keyid, len(manifest.files), dict(envelope.predicate))


def _manifest(reader: "_Reader", envelope: Envelope) -> Manifest:
    content = reader.small(MANIFEST)
    sha256 = hashlib.sha256(content).hexdigest()
    subjects = envelope.statement.get("subject")
    if not (
        isinstance(subjects, list) and subjects and subjects[0] == {"name": MANIFEST, "digest": {"sha256": sha256}}
    ):
        raise PackageDoubtError(MANIFEST, "it is not the one that was signed: its SHA-256 is another one")
    manifest = read_manifest(content)
    if envelope.statement != statement_of(manifest, sha256, envelope.predicate):
        raise PackageDoubtError(STATEMENT, "it does not name the files of the manifest")
    return manifest


def _check_chain(envelope: Envelope, after: Path) -> None:
    with after.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if envelope.predicate.get("after") != {"sha256": sha256}:
        raise PackageDoubtError(
            STATEMENT, f"the package before it is not {after}, whose SHA-256 is {sha256}", "give another --after"
        )


class _Reader:
    """Reads the entries of a package one after the other, and remembers where they are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._entries = file, list[Entry]()
        self._size = file.seek(0, os.SEEK_END)

    @property
    def _at(self) -> int:
        return self._entries[-1].end if self._entries else 0

    def small(self, name: str) -> bytes:
        """Returns the content of the next entry, which must have this name."""
        found = container.parsed_header(self._read(self._at, container.header_size(name)))
        if found is None or found[0] != name:
            raise PackageDoubtError(f"byte {self._at}", f"{name} does not begin here: this is no whole audit package")
        if found[1] > MOST_BYTES:
            raise PackageDoubtError(name, f"it has {found[1]} bytes, and {MOST_BYTES} are the most")
        content = self._read(self._at + container.header_size(name), found[1])
        self._add(name, found[1], len(content), zlib.crc32(content))
        return content

    def check(self, described: File, manifest: Manifest) -> None:
        """Checks the next entry: its header, and its content against the manifest."""
        start, sha256, crc, read = self._at, hashlib.sha256(), 0, 0
        for chunk in self._chunks(start + container.header_size(described.path), described.size):
            sha256.update(chunk)
            crc, read = zlib.crc32(chunk, crc), read + len(chunk)
        if sha256.hexdigest() != described.sha256 or self._is_longer(described, start):
            raise Locator(self._file, self._size, manifest, self._entries).doubt(described, start)
        self._add(described.path, described.size, read, crc)

    def _is_longer(self, described: File, start: int) -> bool:
        """Returns whether bytes were added at the end of the entry: its header says so, and another header follows."""
        name, size = container.parsed_header(self._read(start, container.header_size(described.path))) or ("", 0)
        end = start + container.header_size(described.path) + size
        named = name == described.path and described.size < size and end < self._size
        return named and self._read(end, 2) == b"PK"

    def _add(self, name: str, size: int, read: int, crc: int) -> None:
        start, header = self._at, container.header(name, size, crc)
        if read < size:
            raise PackageDoubtError(f"byte {self._size}", f"it ends within {name}: {size - read} bytes are missing")
        if (at := differs_at(self._read(start, len(header)), header)) is not None:
            raise PackageDoubtError(f"byte {start + at}", f"the zip's header of {name} is not as the format says")
        self._entries.append(Entry(name, size, crc, start))

    def check_end(self) -> None:
        """Checks that the directory of the zip follows the last entry, and nothing follows the directory."""
        wanted = container.directory(self._entries)
        read = self._read(self._at, len(wanted) + 1)
        if (at := differs_at(read, wanted)) is not None:
            why = "the zip's directory is not as the format says"
            if at == len(wanted):
                why = f"{self._size - self._at - at} bytes follow the end of the zip"
            raise PackageDoubtError(f"byte {self._at + at}", why)

    def opened(self, name: str) -> io.BufferedReader:
        """Opens an entry that was checked."""
        entry = next(entry for entry in self._entries if entry.name == name)
        return part_of(self._file, entry.data, entry.size)

    def _read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)

    def _chunks(self, start: int, size: int) -> Iterator[bytes]:
        self._file.seek(start)
        while size and (chunk := self._file.read(min(size, CHUNK))):
            yield chunk
            size -= len(chunk)
