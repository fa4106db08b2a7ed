"""Manifests: files, or standard input, that name images one a row. What they name twice is listed once."""

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
"""How the names of manifests end, in any case."""


class _Rows(Cursor):
    """Rows behind, of a manifest with this ETag."""

    etag: str
    rows: int


class _Lines(Cursor):
    """Lines behind, of standard input, and their digest; None in a cursor of a release that did not keep it."""

    rows: int
    digest: str | None = None


class ManifestSource:
    """A manifest of this machine or in S3, read from a copy. Raises UnknownSourceError without what reads Parquet."""

    def __init__(self, where: Location, rules: Rules, warn: Warn) -> None:
        self._where, self._rules, self._warn = where, rules, warn
        if where.name.lower().endswith(PARQUET):
            need_parquet(where.uri)

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source. SourceError also when the manifest is not what the cursor was made for."""
        where = self._where
        start = _Rows(etag=where.etag, rows=0) if cursor is None else read_cursor(_Rows, cursor, where.uri)
        label = f"{where.name} {'row' if where.name.lower().endswith(PARQUET) else 'line'}"
        with copied(where) as file:
            # Looked at after copying: what was read is what had this ETag.
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
    """Gives the rows of a manifest one by one, and in batches, which begin where the rows stopped."""
    if where.name.lower().endswith(PARQUET):
        with closing(parquet_rows(file, where.uri)) as rows:
            yield rows, batches_of(rows)
        return
    form = where.name.lower().removesuffix(".gz").rpartition(".")[2]
    # In a list of names a carriage return may belong to a name.
    with text_lines(file, newline="\n" if form == "txt" else "") as lines:
        if form == "jsonl":
            yield json_lines(lines), json_batches(lines)
        else:
            read = csv_rows(lines, where.uri) if form == "csv" else json_lines_or_uris(lines)
            yield read, batches_of(read)


class StandardInput:
    """Uris, absolute paths or JSON Lines that are piped in, one a line.

    A listing that goes on needs the same input again.
    """

    def __init__(self, lines: Iterable[bytes], rules: Rules, warn: Warn) -> None:
        self._lines, self._rules, self._warn = lines, rules, warn

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source. Only once: what was read is gone. SourceError also when it is other input."""
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
    """Lines as text, and the digest of those that were taken; the ends of lines, the last one's too, do not count."""

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
    # Rows are read a page at a time, and a line is a row: just those behind were taken by now.
    return _Lines(rows=behind, digest=lines.digest).model_dump_json()


def _ends_early(line: int) -> SourceError:
    return SourceError(
        f"{STANDARD_INPUT} ends before line {line}, where the scan stopped: pipe the same input in again"
    )
