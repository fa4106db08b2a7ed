"""Which uris of a manifest came before: exact, and in memory that does not grow with the manifest."""

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from worker.errors import SourceError

DIGEST_BYTES = 16
"""Of a uri. Among 10^9 uris, two share one with a chance of 10^-21."""

CACHE_KIB = 8192


class SeenUris:
    """Digests of uris in a SQLite file. `seen_uris` opens one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def new(self, uris: list[str]) -> set[int]:
        """The places of those that never came before; from now on they have. At most 32,766 at a time.

        Raises SourceError when there is no room for them.
        """
        first: dict[bytes, int] = {}
        for place, uri in enumerate(uris):
            # A lone surrogate, which JSON can hold, makes no ImageRef, but is counted there.
            first.setdefault(
                hashlib.blake2b(uri.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest(), place
            )
        if not first:
            return set()
        # In order, so that neighbours fall into one page of the tree.
        values = ",".join(["(?)"] * len(first))
        insert = f"INSERT OR IGNORE INTO seen VALUES {values} RETURNING digest"  # noqa: S608 - only question marks
        try:
            return {first[digest] for (digest,) in self._connection.execute(insert, sorted(first))}
        except sqlite3.Error as error:
            raise SourceError(
                f"temporary file: cannot be written: {error}: set TMPDIR to where there is room"
            ) from error


@contextmanager
def seen_uris() -> Iterator[SeenUris]:
    """An empty one, in a file without a name: of a process that is killed, nothing stays behind."""
    with closing(_opened()) as connection:
        yield SeenUris(connection)


def _opened() -> sqlite3.Connection:
    with tempfile.TemporaryDirectory(prefix="fakesweep-") as folder:
        connection = sqlite3.connect(Path(folder) / "seen", isolation_level=None)
        # Nothing of it has to outlive the process: no waiting for the disk, and no journal, which would need the name.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{CACHE_KIB}"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        connection.execute("BEGIN")
    return connection
