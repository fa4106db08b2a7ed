"""Reads CSV files that name images, with a header or in the form of S3 Inventory."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from producers.sources.formats import row_of
from producers.sources.rows import BadRow, Row
from producers.sources.values import COLUMNS, named, names_images, s3_uri
from worker.errors import SourceError

MAX_FIELD = 2**24
"""Characters that a CSV field may have. If a closing quotation mark is missing, the field is read up to this limit."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]*")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9 _-]*")
_HEADERS = {*COLUMNS, "id", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "name",
            "label", "object", "object_key", "last_modified", "version_id"}  # fmt: skip
"""Names of columns in CSV files. If the first line has one of them, it is a header."""


def csv_rows(lines: Iterable[str], source: str) -> Iterator[Row]:
    """Yields a row for each line of a CSV file, None for a blank line. Raises SourceError for a first line of another
    form.

    A header names `uri` (or another column of URI_COLUMNS), or `bucket` and `key`, in which nothing is escaped. Commas,
    semicolons or tabs separate the columns. Without a header, the file has the form of S3 Inventory: the first two
    columns are the bucket and the URL-encoded key. A row of several lines has the number of its last line.
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
        yield row_of(s3_uri, *row[:2], escaped=True) if isinstance(row, list) else row


def _header(line: str, mark: str) -> list[str]:
    try:
        return [
            column.strip().lower() for column in next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])
        ]
    except csv.Error:
        return []


def _check_no_header(columns: Sequence[str], line: str, source: str) -> None:
    """Raises SourceError unless the first line holds a bucket and a key. It may be a header with unknown columns."""
    words = all(_WORD.fullmatch(column) for column in columns[:2]) and _HEADERS & set(columns)
    if words or len(columns) < 2 or not _BUCKET.fullmatch(columns[0]):  # noqa: PLR2004 - bucket and key
        raise SourceError(
            f"{source}: line 1 is neither a known header nor a bucket and a key: {line.strip()[:80]!r}: "
            "give a first line that names the columns: uri, or bucket,key"
        )


def csv_records(lines: Iterable[str], mark: str = ",") -> Iterator[list[str] | BadRow | None]:
    """Yields the rows of a CSV file, and None for a blank line.

    Before a row of several lines, it yields None for each further line. So the number of a row is that of its last
    line.
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
        return BadRow(f"{len(row)} columns, but the header has {len(columns)}")
    return named({column: value or None for column, value in zip(columns, row, strict=True)})
