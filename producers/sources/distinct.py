"""Finds uris that a manifest names twice. It is exact, and its memory does not grow with the manifest."""

import hashlib
import operator
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from worker.errors import SourceError

DIGEST_BYTES = 16
"""The length of a uri's digest. Among 10^9 uris, the chance that two share one is 10^-21."""

CACHE_KIB = 8192


_OF_A_FILE = 5000
"""How many digests are read from the file at once."""


class SeenUris:
    """Digests of uris in a SQLite file. `seen_uris` opens one.

    Most manifests are sorted by uri. While a listing is sorted, no uri can come twice. Its digests are then only
    appended to a plain `file`, which costs a fraction of an insert into SQLite. At the first uri that is out of order,
    all digests are moved into SQLite.
    """

    def __init__(self, connection: sqlite3.Connection, file: BinaryIO) -> None:
        self._connection, self._file = connection, file
        self._last: str | None = ""  # None when the listing is not in order

    def new(self, uris: list[str]) -> set[int]:
        """Returns the positions of the uris that are new, and remembers them. Takes at most 32,766 uris at a time.

        Raises SourceError if there is no space for them.
        """
        if not uris:
            return set()
        digests = [_digest(uri) for uri in uris]
        try:
            if self._last is not None and self._last < uris[0] and all(map(operator.lt, uris, uris[1:])):
                self._last = uris[-1]
                self._file.write(b"".join(digests))
                return set(range(len(uris)))
            if self._last is not None:
                self._last = None
                self._load()
            return self._insert(digests)
        except (sqlite3.Error, OSError) as error:
            raise SourceError(
                f"temporary file: cannot be written: {error}: set TMPDIR to a folder with enough space"
            ) from error

    def _load(self) -> None:
        self._file.seek(0)
        while block := self._file.read(_OF_A_FILE * DIGEST_BYTES):
            self._insert([block[start : start + DIGEST_BYTES] for start in range(0, len(block), DIGEST_BYTES)])
        self._file.truncate(0)

    def _insert(self, digests: list[bytes]) -> set[int]:
        first: dict[bytes, int] = {}
        for place, digest in enumerate(digests):
            first.setdefault(digest, place)
        # Sorted, so that neighbours fall into one page of the tree.
        values = ",".join(["(?)"] * len(first))
        insert = f"INSERT OR IGNORE INTO seen VALUES {values} RETURNING digest"  # noqa: S608 - only question marks
        return {first[digest] for (digest,) in self._connection.execute(insert, sorted(first))}


def _digest(uri: str) -> bytes:
    # JSON can hold a lone surrogate. It makes no ImageRef, but is counted there.
    return hashlib.blake2b(uri.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()


@contextmanager
def seen_uris() -> Iterator[SeenUris]:
    """Opens an empty SeenUris, in files without a name: a process that is killed leaves nothing behind."""
    with closing(_opened()) as connection, tempfile.TemporaryFile(prefix="fakesweep-") as file:
        yield SeenUris(connection, file)


def _opened() -> sqlite3.Connection:
    with tempfile.TemporaryDirectory(prefix="fakesweep-") as folder:
        connection = sqlite3.connect(Path(folder) / "seen", isolation_level=None)
        # Nothing must outlive the process: so there is no waiting for the disk, and no journal, which would need a
        # name.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        connection.execute("BEGIN")
    return connection
