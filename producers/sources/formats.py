"""Reads rows that name images, from JSON Lines, lines of uris, and Parquet. CSV is read in csv_files.py.

values.py says which columns there may be, and given.py how an image may be named.
"""

import json
import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from pydantic_core import from_json

from producers.sources.given import given_line, given_uri
from producers.sources.rows import BadRow, Row
from producers.sources.text import several_in
from producers.sources.values import COLUMNS, named, names_images
from worker.errors import BadRowError, SourceError, UnknownSourceError

PARQUET_BATCH_ROWS = 1000

_BROKEN = (OSError, EOFError, zlib.error, UnicodeError)


@contextmanager
def breaking_off(source: str) -> Iterator[None]:
    """Turns the errors that a broken file raises into a SourceError that names it."""
    try:
        yield
    except _BROKEN as error:
        raise SourceError(f"{source}: cannot be read to its end: {error}: write or copy it again") from error


def json_lines(lines: Iterable[str]) -> Iterator[Row]:
    """Reads Rekognition's form: one object per line with `source-ref`, or another of COLUMNS that names an image. It
    may also have `external_id` (or `external-id`), `etag` and `size`.
    """
    for line in lines:
        if not line.strip():
            yield None
            continue
        entry = _parsed(line)
        yield named(entry) if isinstance(entry, dict) and names_images(entry.keys()) else _no_entry(line)


def _parsed(line: str) -> Any:
    try:
        return from_json(line, cache_strings="keys")  # few values come twice
    except (ValueError, TypeError, RecursionError):
        pass
    try:
        # Python programs write the bytes of a name that is not UTF-8 as "\udce9", and only json reads that.
        return json.loads(line) if "\\ud" in line else None
    except (ValueError, RecursionError):
        return None


def _no_entry(line: str) -> BadRow:
    if "\0" in line:
        return BadRow("contains NUL: give UTF-8 text, with one name in each line")
    if any("\udc80" <= char <= "\udcff" for char in line):
        return BadRow("not UTF-8, and not a JSON object with source-ref")
    return BadRow("not a JSON object with source-ref")


def json_lines_or_uris(lines: Iterable[str]) -> Iterator[Row]:
    """Reads one uri or absolute path per line, plain or as a JSON text; or JSON Lines."""
    for line in lines:
        text = line.rstrip("\r\n")
        if several_in(text):
            yield BadRow("lines that end in a carriage return alone: convert them, for example with tr '\\r' '\\n'")
        elif text.startswith(("s3://", "/", "file:")):
            yield row_of(given_line, line.removesuffix("\n"))
        elif not text.strip() or text.lstrip().startswith("{"):
            yield from json_lines([line])
        elif text.startswith('"') and isinstance(quoted := _parsed(text), str):
            yield row_of(given_uri, quoted)
        else:
            yield row_of(given_uri, text) if re.search(r"[/\\]", text) else _no_entry(line)


def row_of(reader: Callable[..., str], *text: str, **how: bool) -> Row:
    """Returns the row with the uri that `reader` makes of the text, or a BadRow that says what is wrong with it."""
    try:
        return {"uri": reader(*text, **how)}
    except BadRowError as error:
        return BadRow(str(error))


def parquet_rows(file: BinaryIO, source: str) -> Generator[Row, None, None]:
    """Reads the columns `bucket` and `key`, or `uri`, and also `e_tag` or `etag`, `size` and `external_id`. In `key`,
    nothing is escaped: S3 Inventory encodes only the keys of its CSV files.

    Raises UnknownSourceError if pyarrow or those columns are missing, and SourceError if the file is broken.
    """
    for row in parquet_columns(file, source, COLUMNS):
        yield named(row)


def parquet_columns(file: BinaryIO, source: str, columns: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yields the rows of a Parquet file, with those of `columns` that it has. Raises like parquet_rows."""
    pa, parquet = need_parquet(source)
    try:
        with parquet.ParquetFile(file) as table:
            names = {name.strip().lower(): name for name in table.schema_arrow.names}
            if not names_images(set(names)):
                raise UnknownSourceError(f"{source}: it must have the columns bucket and key, or uri")
            wanted = {names[column]: column for column in columns if column in names}
            for batch in table.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=list(wanted)):
                yield from batch.rename_columns([wanted[name] for name in batch.schema.names]).to_pylist()
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())
        raise SourceError(f"{source}: cannot be read to its end: {text}: write or copy it again") from error


def need_parquet(source: str) -> tuple[Any, Any]:
    """Returns pyarrow and pyarrow.parquet. Raises UnknownSourceError if they are not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise UnknownSourceError(f"{source}: Parquet needs pyarrow: pip install 'fakesweep[parquet]'") from None
    return pa, parquet
