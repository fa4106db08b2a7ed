"""named() makes the fields of an ImageRef from the columns of a row. Numbers become text where text is meant."""

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_plus

from producers.sources.given import given_uri
from producers.sources.rows import BadRow, Row
from worker.errors import BadRowError

URI_COLUMNS = ("uri", "source-ref", "source_ref", "url", "path")
ETAGS = ("etag", "e_tag")
IDS = ("external_id", "external-id")
COLUMNS = (*URI_COLUMNS, "bucket", "key", *ETAGS, "size", *IDS)
"""The columns of a manifest that are read. Other columns are ignored."""

_EXACT = 2**53
"""Up to this number, a float holds every whole number exactly."""


def names_images(columns: AbstractSet[str]) -> bool:
    """Whether rows with these columns can name images. The columns are in lower case."""
    return not columns.isdisjoint(URI_COLUMNS) or {"bucket", "key"} <= columns


def named(row: Mapping[str, Any]) -> Row:
    """Returns the fields of an ImageRef in a row, or a BadRow that says what is wrong.

    The row has columns of COLUMNS: `uri` or one of its other names, or else `bucket` and `key`, in which nothing is
    escaped. It may have `etag`, `size` and `external_id`.
    """
    try:
        etag, external_id = _first(row, ETAGS), _first(row, IDS)
        return {
            "uri": _uri(row),
            "etag": bare(etag if isinstance(etag, str) else as_text("etag", etag)),
            "size": _size(row.get("size")),
            "external_id": external_id if isinstance(external_id, str) else as_text("external_id", external_id),
        }
    except BadRowError as error:
        return BadRow(str(error))


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:  # not a generator: a million rows come this way
        value = row.get(name)
        if value is not None and value != "":
            return value
    return None


def _uri(row: Mapping[str, Any]) -> Any:
    given = _first(row, URI_COLUMNS)
    if given is None:
        try:
            return s3_uri(row.get("bucket"), row.get("key"))
        except BadRowError as error:
            raise BadRowError(f"no uri, and {error}") from None
    text = given if isinstance(given, str) else as_text("uri", given)
    return given_uri(text.lstrip(" \t")) if isinstance(text, str) else text


def _size(size: Any) -> Any:
    return None if size == "" or (isinstance(size, float) and math.isnan(size)) else size


def as_text(name: str, value: Any) -> Any:
    """Returns a number as the text that was meant. Returns a value of another type as it is: ImageRef refuses it.

    If a row has no number in a column, pandas turns all whole numbers of the column into floats. So 17.0 means "17".
    Raises BadRowError if a float has lost digits.
    """
    match value:
        case bytes():
            return value.decode(errors="surrogateescape")
        case bool():
            return value
        case int() | Decimal():
            return str(value)
        case float() if math.isnan(value):
            return None
        case float() if abs(value) > _EXACT or (name == "etag" and not value.is_integer()):
            raise BadRowError(f"{name}: the number {value!r} has lost digits: write it in quotation marks")
        case float():
            return str(int(value)) if value.is_integer() else str(value)
    return value


def s3_uri(bucket: Any = None, key: Any = None, *, escaped: bool = False) -> str:
    """Returns the uri of an object from the columns for bucket and key. Raises BadRowError.

    `escaped`: the key is URL-encoded, as in S3 Inventory's CSV.
    """
    bucket, key = as_text("bucket", bucket), as_text("key", key)
    if not (isinstance(bucket, str) and isinstance(key, str) and bucket and key):
        raise BadRowError("no bucket and key")
    if "/" in bucket:
        raise BadRowError(f"{bucket!r} is not a bucket: name the columns in the first line: uri, or bucket,key")
    try:
        return given_uri(f"s3://{bucket}/{unquote_plus(key, errors='strict') if escaped else key}")
    except UnicodeDecodeError:
        raise BadRowError(f"key {key!r} is not UTF-8") from None


def bare(etag: Any) -> Any:
    """Returns an ETag without its quotes, or None if it is empty."""
    return (etag.strip('"') or None) if isinstance(etag, str) else etag
