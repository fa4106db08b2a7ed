"""The forms in which rows name images: JSON Lines, lines of uris, CSV and Parquet. Each reader gives Rows.

What their columns may be is in values.py; how an image may be named in given.py.
"""

import csv
import itertools
import json
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from pydantic_core import from_json

from producers.sources.given import given_line, given_uri
from producers.sources.rows import BadRow, Row
from producers.sources.text import several_in
from producers.sources.values import COLUMNS, ETAGS, IDS, named, names_images, s3_uri
from worker.errors import BadRowError, SourceError, UnknownSourceError

PARQUET_BATCH_ROWS = 1000
MAX_FIELD = 2**24
"""Characters of a field of CSV. A quotation mark without its other one reads on up to here."""

_BROKEN = (OSError, EOFError, zlib.error, UnicodeError)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]*")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9 _-]*")
_FLOAT = re.compile(r"\d+\.0")
_HEADERS = {*COLUMNS, "id", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "name",
            "label", "object", "object_key", "last_modified", "version_id"}  # fmt: skip
"""What stands in the first line of CSV files: any of them shows that it is a header."""


@contextmanager
def breaking_off(source: str) -> Iterator[None]:
    """What a broken file raises becomes a SourceError that names it."""
    try:
        yield
    except _BROKEN as error:
        raise SourceError(f"{source}: cannot be read to its end: {error}: write or copy it anew") from error


def json_lines(lines: Iterable[str]) -> Iterator[Row]:
    """Rekognition's form: an object a line with `source-ref`, or another of COLUMNS that names an image;
    `external_id` (or `external-id`), `etag` and `size` may stand beside it.
    """
    for line in lines:
        if not line.strip():
            yield None
            continue
        entry = _parsed(line)
        yield named(entry) if isinstance(entry, dict) and names_images(entry.keys()) else _no_entry(line)


def _parsed(line: str) -> Any:
    try:
        return from_json(line, cache_strings="keys")  # hardly a value comes twice
    except (ValueError, TypeError, RecursionError):
        pass
    try:
        # Python's own programs spell the bytes of a name that is no UTF-8 so, and only json reads that: "\udce9".
        return json.loads(line) if "\\ud" in line else None
    except (ValueError, RecursionError):
        return None


def _no_entry(line: str) -> BadRow:
    if "\0" in line:
        return BadRow("holds NUL: give UTF-8 text, and each name in a line of its own")
    if any("\udc80" <= char <= "\udcff" for char in line):
        return BadRow("not UTF-8, and no JSON object with source-ref")
    return BadRow("no JSON object with source-ref")


def json_lines_or_uris(lines: Iterable[str]) -> Iterator[Row]:
    """A uri or an absolute path a line, as it stands or as a JSON text; or JSON Lines."""
    for line in lines:
        text = line.rstrip("\r\n")
        if several_in(text):
            yield BadRow("lines that end in a carriage return alone: make newlines of them, as tr '\\r' '\\n' does")
        elif text.startswith(("s3://", "/", "file:")):
            yield _row(given_line, line.removesuffix("\n"))
        elif not text.strip() or text.lstrip().startswith("{"):
            yield from json_lines([line])
        elif text.startswith('"') and isinstance(quoted := _parsed(text), str):
            yield _row(given_uri, quoted)
        else:
            yield _row(given_uri, text) if re.search(r"[/\\]", text) else _no_entry(line)


def _row(reader: Callable[..., str], *text: str, **how: bool) -> Row:
    try:
        return {"uri": reader(*text, **how)}
    except BadRowError as error:
        return BadRow(str(error))


def csv_rows(lines: Iterable[str], source: str) -> Iterator[Row]:
    """CSV with a header that names `uri` (or another of COLUMNS that does) or `bucket` and `key`, nothing escaped;
    separated by commas, semicolons or tabs. Without a header it has S3 Inventory's form: bucket and URL-encoded key are
    the first two columns, always.

    A row's number is that of its last line. Raises SourceError for a first line that is neither.
    """
    lines = iter(lines)
    first = ""
    while not first.strip(" \t\r\n,;"):
        first = next(lines, "")
        if not first:
            return
        if not first.strip(" \t\r\n,;"):
            yield None
    found = ((mark, _header(first, mark)) for mark in ",;\t")
    mark, columns = next(((mark, columns) for mark, columns in found if names_images(set(columns))), (",", []))
    if columns:
        yield None
        for row in csv_records(lines, mark):
            yield _in_columns(row, columns) if isinstance(row, list) else row
        return
    _check_no_header(_header(first, ","), first, source)
    for row in csv_records(itertools.chain([first], lines)):
        yield _row(s3_uri, *row[:2], escaped=True) if isinstance(row, list) else row


def _header(line: str, mark: str) -> list[str]:
    try:
        return [
            column.strip().lower() for column in next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])
        ]
    except csv.Error:
        return []


def _check_no_header(columns: Sequence[str], line: str, source: str) -> None:
    """Bucket and key, and not the names of columns that nobody here knows."""
    words = all(_WORD.fullmatch(column) for column in columns[:2]) and _HEADERS & set(columns)
    if words or len(columns) < 2 or not _BUCKET.fullmatch(columns[0]):  # noqa: PLR2004 - bucket and key
        raise SourceError(
            f"{source}: line 1 is neither a bucket and a key nor a header that is known: {line.strip()[:80]!r}: "
            "give a first line that names the columns: uri, or bucket,key"
        )


def csv_records(lines: Iterable[str], mark: str = ",") -> Iterator[list[str] | BadRow | None]:
    """The rows of a CSV file, None for a blank one. Before a row of several lines comes a blank one for each further
    line, so that rows count as lines do.
    """
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(lines, delimiter=mark, strict=True)
    behind = 0
    while True:
        row: list[str] | BadRow | None
        try:
            row = next(reader) or None
        except StopIteration:
            return
        except csv.Error as error:
            over = reader.line_num - behind
            row = BadRow(f"a row of {over} line{'s' if over > 1 else ''}: {error}: is a quotation mark missing?")
        yield from itertools.repeat(None, reader.line_num - behind - 1)
        behind = reader.line_num
        yield row


def _in_columns(row: list[str], columns: Sequence[str]) -> Row:
    if len(row) != len(columns):
        return BadRow(f"{len(row)} columns, not the header's {len(columns)}")
    found: dict[str, Any] = {column: value or None for column, value in zip(columns, row, strict=True)}
    for column in (*ETAGS, *IDS):
        # pandas writes whole numbers so where other rows have none.
        if (value := found.get(column)) and _FLOAT.fullmatch(value):
            found[column] = value.removesuffix(".0")
    return named(found)


def parquet_rows(file: BinaryIO, source: str) -> Generator[Row, None, None]:
    """Columns `bucket` and `key` (nothing escaped: S3 Inventory encodes the keys of its CSV files only), or `uri`;
    perhaps `e_tag` or `etag`, `size` and `external_id`.

    Raises UnknownSourceError without pyarrow or those columns, SourceError when the file is broken.
    """
    for row in parquet_columns(file, source, COLUMNS):
        yield named(row)


def parquet_columns(file: BinaryIO, source: str, columns: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, with those of `columns` that it has. Raises as parquet_rows does."""
    pa, parquet = need_parquet(source)
    try:
        with parquet.ParquetFile(file) as table:
            names = {name.strip().lower(): name for name in table.schema_arrow.names}
            if not names_images(set(names)):
                raise UnknownSourceError(f"{source}: no columns bucket and key, nor uri: name them so")
            wanted = {names[column]: column for column in columns if column in names}
            for batch in table.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=list(wanted)):
                yield from batch.rename_columns([wanted[name] for name in batch.schema.names]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())
        raise SourceError(f"{source}: cannot be read to its end: {text}: write or copy it anew") from error


def need_parquet(source: str) -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet. Raises UnknownSourceError where they are not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise UnknownSourceError(f"{source}: Parquet needs pyarrow: pip install 'fakesweep[parquet]'") from None
    return pa, parquet
