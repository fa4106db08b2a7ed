"""The forms in which rows name images: JSON Lines, CSV and Parquet. Each reader gives Rows."""

import csv
import gzip
import io
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO
from urllib.parse import unquote_plus

from pydantic_core import from_json

from producers.sources.rows import BadRow, Row
from worker.errors import SourceError, UnknownSourceError

URI_COLUMNS = ("uri", "source-ref")
PARQUET_BATCH_ROWS = 1000

_BROKEN = (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error)


@contextmanager
def breaking_off(source: str) -> Iterator[None]:
    """What a broken file raises becomes a SourceError that names it."""
    try:
        yield
    except _BROKEN as error:
        raise SourceError(f"{source}: cannot be read to its end: {error}: write or copy it anew") from error


def text_lines(file: BinaryIO, *, packed: bool) -> io.TextIOWrapper:
    """Its lines, the end of a line as it stands; `packed` with gzip."""
    return io.TextIOWrapper(gzip.open(file) if packed else file, encoding="utf-8-sig", newline="")


def json_lines(lines: Iterable[str]) -> Iterator[Row]:
    """Rekognition's form: an object a line with `source-ref`; `external_id` (or `external-id`), `etag` and `size` may
    stand beside it.
    """
    for line in lines:
        if not line.strip():
            yield None
            continue
        try:
            entry = from_json(line, cache_strings="keys")  # hardly a value comes twice
            uri = entry["source-ref"] if "source-ref" in entry else entry["uri"]
        except (ValueError, KeyError, TypeError, RecursionError):
            yield BadRow("no JSON object with source-ref")
            continue
        yield {
            "uri": uri,
            "etag": bare(entry.get("etag")),
            "size": entry.get("size"),
            "external_id": entry.get("external_id", entry.get("external-id")),
        }


def json_lines_or_uris(lines: Iterable[str]) -> Iterator[Row]:
    """JSON Lines, where a line may also be a plain uri."""
    for line in lines:
        if line.startswith(("s3://", "file:///")):
            yield {"uri": line.rstrip("\r\n")}
        else:
            yield from json_lines([line])


def csv_rows(lines: Iterable[str]) -> Iterator[Row]:
    """CSV with a header that names `uri` (or `source-ref`), and perhaps external_id, etag and size; without one, S3
    Inventory's form: bucket and URL-encoded key are the first two columns, always.
    """
    reader = csv.reader(lines)
    first = next(reader, [])
    columns = [column.strip().lower() for column in first]
    if not set(URI_COLUMNS) & set(columns):
        yield _inventory_row(first)
        yield from map(_inventory_row, reader)
        return
    yield None
    for row in reader:
        if not row:
            yield None
        elif len(row) != len(columns):
            yield BadRow(f"{len(row)} columns, not the header's {len(columns)}")
        else:
            yield _named({column: value or None for column, value in zip(columns, row, strict=True)})


def _inventory_row(row: list[str]) -> Row:
    if not row:
        return None
    uri = s3_uri(*row[:2], escaped=True)
    return uri if isinstance(uri, BadRow) else {"uri": uri}


def s3_uri(bucket: Any = None, key: Any = None, *, escaped: bool = False) -> str | BadRow:
    """The object's uri, from what stands in a bucket's and a key's column; `escaped` as in S3 Inventory's CSV."""
    if not (isinstance(bucket, str) and isinstance(key, str) and bucket and key):
        return BadRow("no bucket and key")
    try:
        return f"s3://{bucket}/{unquote_plus(key, errors='strict') if escaped else key}"
    except UnicodeDecodeError:
        return BadRow(f"key {key!r} is not UTF-8")


def parquet_rows(file: BinaryIO, source: str) -> Generator[Row, None, None]:
    """Columns `bucket` and `key` (nothing escaped: S3 Inventory encodes the keys of its CSV files only), or `uri`;
    perhaps `e_tag` or `etag`, `size` and `external_id`.

    Raises UnknownSourceError without pyarrow or those columns, SourceError when the file is broken.
    """
    for row in parquet_columns(file, source, ("uri", "source-ref", "bucket", "key", *_FACTS)):
        yield _named(row)


def parquet_columns(file: BinaryIO, source: str, columns: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, with those of `columns` that it has. Raises as parquet_rows does."""
    pa, parquet = need_parquet(source)
    try:
        with parquet.ParquetFile(file) as table:
            names = set(table.schema_arrow.names)
            if not ({"bucket", "key"} <= names or names & set(URI_COLUMNS)):
                raise UnknownSourceError(f"{source}: no columns bucket and key, nor uri: name them so")
            wanted = [column for column in columns if column in names]
            for batch in table.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=wanted):
                yield from batch.to_pylist()
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


_FACTS = ("etag", "e_tag", "size", "external_id", "external-id")


def _named(row: dict[str, Any]) -> Row:
    uri = row.get("uri") or row.get("source-ref")
    if not uri:
        uri = s3_uri(row.get("bucket"), row.get("key"))
        if isinstance(uri, BadRow):
            return BadRow(f"no uri, and {uri.text}")
    return {
        "uri": uri,
        "etag": bare(row.get("etag") or row.get("e_tag")),
        "size": row.get("size"),
        "external_id": row.get("external_id") or row.get("external-id"),
    }


def bare(etag: Any) -> Any:
    """An ETag without its quotes; None when it is empty."""
    return (etag.strip('"') or None) if isinstance(etag, str) else etag
