"""Manifests: files, or standard input, that name one image per row. An image that is named twice is listed once."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO

from producers.listing import Page, Rules, Warn
from producers.sources.csv_files import csv_rows
from producers.sources.cursors import Cursor, changed, read_cursor
from producers.sources.distinct import seen_uris
from producers.sources.formats import (
    breaking_off,
    json_lines,
    json_lines_or_uris,
    need_parquet,
    parquet_rows,
)
from producers.sources.locations import Location, copied, unchanged
from producers.sources.plain_lines import json_batches
from producers.sources.rows import Batch, Row, Sieve, batches_of, go_to, paged
from producers.sources.text import decoded, text_lines
from worker.errors import SourceError

STANDARD_INPUT = "standard input"

PARQUET = ".parquet"
MANIFESTS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".txt", ".txt.gz", PARQUET)
"""Suffixes of manifests, in any case."""


class _Rows(Cursor):
    """How many rows of the manifest with this ETag were read."""

    etag: str
    rows: int


class _Lines(Cursor):
    """How many lines of standard input were read, and their digest. It is None in cursors of older releases."""

    rows: int
    digest: str | None = None


class ManifestSource:
    """A manifest of this machine or in S3, read from a copy. Raises UnknownSourceError if Parquet cannot be read."""

    def __init__(self, where: Location, rules: Rules, warn: Warn) -> None:
        self._where, self._rules, self._warn = where, rules, warn
        if where.name.lower().endswith(PARQUET):
            need_parquet(where.uri)

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source. Raises SourceError also if the manifest has changed since the cursor."""
        where = self._where
        start = _Rows(etag=where.etag, rows=0) if cursor is None else read_cursor(_Rows, cursor, where.uri)
        label = f"{where.name} {'row' if where.name.lower().endswith(PARQUET) else 'line'}"
        with copied(where) as file:
            # Checked after copying, so that the copy is known to have this ETag.
            if start.etag != where.etag or not unchanged(where):
                raise changed(where.uri)
            with breaking_off(where.uri), _read(file, where) as (rows, batches), seen_uris() as seen:
                sieve = Sieve(self._rules, self._warn, label)
                go_to(rows, start.rows, changed(where.uri), seen)
                yield from paged(batches, start.rows, sieve, self._cursor, seen)

    def _cursor(self, rows: int) -> str:
        return _Rows(etag=self._where.etag, rows=rows).model_dump_json()


@contextmanager
def _read(file: BinaryIO, where: Location) -> Iterator[tuple[Iterator[Row], Iterator[Batch]]]:
    """Gives the rows of a manifest one by one, and in batches that begin where the single rows stopped."""
    if where.name.lower().endswith(PARQUET):
        with closing(parquet_rows(file, where.uri)) as rows:
            yield rows, batches_of(rows)
        return
    form = where.name.lower().removesuffix(".gz").rpartition(".")[2]
    # In a list of names, a carriage return may be part of a name.
    with text_lines(file, newline="\n" if form == "txt" else "") as lines:
        if form == "jsonl":
            yield json_lines(lines), json_batches(lines)
        else:
            read = csv_rows(lines, where.uri) if form == "csv" else json_lines_or_uris(lines)
            yield read, batches_of(read)


class StandardInput:
    """Uris, absolute paths or JSON Lines that are piped in, one per line.

    A listing that continues needs the same input again.
    """

    def __init__(self, lines: Iterable[bytes], rules: Rules, warn: Warn) -> None:
        self._lines, self._rules, self._warn = lines, rules, warn

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source. Works only once. Raises SourceError also if the input is not the same."""
        start = _Lines(rows=0) if cursor is None else read_cursor(_Lines, cursor, STANDARD_INPUT)
        lines = _Digested(self._lines)
        with breaking_off(STANDARD_INPUT), seen_uris() as seen:
            rows = json_lines_or_uris(lines)
            go_to(rows, start.rows, _ends_early(start.rows), seen)
            if start.rows and start.digest not in {lines.digest, None}:
                raise SourceError(
                    f"{STANDARD_INPUT}: its first {start.rows} lines are not those that the scan began with: "
                    "pipe the same input in again"
                )
            sieve = Sieve(self._rules, self._warn, f"{STANDARD_INPUT} line")
            yield from paged(batches_of(rows), start.rows, sieve, lambda behind: _cursor(behind, lines), seen)


class _Digested:
    """Lines as text, and the digest of the lines that were taken. The digest does not cover the ends of lines."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines, self._hash = lines, hashlib.blake2b(digest_size=16)

    def __iter__(self) -> Iterator[str]:
        yield from decoded(self._hashed(), STANDARD_INPUT)

    def _hashed(self) -> Iterator[bytes]:
        for line in self._lines:
            self._hash.update(line.rstrip(b"\r\n") + b"\n")
            yield line

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def _cursor(behind: int, lines: _Digested) -> str:
    # Rows are read page by page, and each line is a row: so exactly these lines were taken by now.
    return _Lines(rows=behind, digest=lines.digest).model_dump_json()


def _ends_early(line: int) -> SourceError:
    return SourceError(
        f"{STANDARD_INPUT} ends before line {line}, where the scan stopped: pipe the same input in again"
    )
