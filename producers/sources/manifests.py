"""Manifests: files, or standard input, that name images one a row. What they name twice is listed once."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from producers.listing import Page, Rules, Warn
from producers.sources.cursors import Cursor, changed, read_cursor
from producers.sources.distinct import seen_uris
from producers.sources.formats import (
    breaking_off,
    csv_rows,
    json_lines,
    json_lines_or_uris,
    need_parquet,
    parquet_rows,
    text_lines,
)
from producers.sources.objects import Location, copied, unchanged
from producers.sources.rows import Row, Sieve, paged

PARQUET = ".parquet"
MANIFESTS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", PARQUET)


class _Rows(Cursor):
    """Rows behind, of a manifest with this ETag."""

    etag: str
    rows: int


class _Lines(Cursor):
    """Lines behind, of standard input."""

    rows: int


class ManifestSource:
    """A manifest of this machine or in S3, read from a copy. Raises UnknownSourceError without what reads Parquet."""

    def __init__(self, where: Location, rules: Rules, warn: Warn) -> None:
        self._where, self._rules, self._warn = where, rules, warn
        if where.name.endswith(PARQUET):
            need_parquet(where.uri)

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source. SourceError also when the manifest is not what the cursor was made for."""
        where = self._where
        start = _Rows(etag=where.etag, rows=0) if cursor is None else read_cursor(_Rows, cursor, where.uri)
        label = f"{where.name} {'row' if where.name.endswith(PARQUET) else 'line'}"
        with copied(where) as path:
            # Looked at after copying: what was read is what had this ETag.
            if start.etag != where.etag or not unchanged(where):
                raise changed(where.uri)
            with breaking_off(where.uri), _rows(path, where) as rows, seen_uris() as seen:
                sieve = Sieve(self._rules, self._warn, label)
                yield from paged(rows, start.rows, sieve, self._cursor, seen)

    def _cursor(self, rows: int) -> str:
        return _Rows(etag=self._where.etag, rows=rows).model_dump_json()


@contextmanager
def _rows(path: Path, where: Location) -> Iterator[Iterator[Row]]:
    if where.name.endswith(PARQUET):
        with closing(parquet_rows(path, where.uri)) as rows:
            yield rows
        return
    unpacked = where.name.removesuffix(".gz")
    with path.open("rb") as file, text_lines(file, packed=unpacked != where.name) as lines:
        yield (csv_rows if unpacked.endswith(".csv") else json_lines)(lines)


class StandardInput:
    """Uris or JSON Lines that are piped in, one a line. A listing that goes on needs the same input again."""

    def __init__(self, lines: BinaryIO, rules: Rules, warn: Warn) -> None:
        self._lines, self._rules, self._warn = lines, rules, warn

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source. Only once: what was read is gone."""
        start = 0 if cursor is None else read_cursor(_Lines, cursor, "standard input").rows
        with breaking_off("standard input"), seen_uris() as seen:
            rows = json_lines_or_uris(_decoded(self._lines))
            sieve = Sieve(self._rules, self._warn, "standard input line")
            yield from paged(rows, start, sieve, lambda behind: _Lines(rows=behind).model_dump_json(), seen)


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    # Not a TextIOWrapper, which would close the process's standard input with itself.
    return (line.decode() for line in lines)
