"""Reads S3 Inventory: the lists of a bucket that S3 writes daily or weekly. From 10^8 keys on, only it is fast enough.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html describes manifest.json, and
https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html the lists. Keys are URL-encoded only in
CSV.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, BinaryIO

from pydantic import BaseModel, ValidationError

from producers.listing import Page, Rules, SkipReason, Warn
from producers.sources.csv_files import csv_records
from producers.sources.cursors import Cursor, changed, read_cursor
from producers.sources.formats import breaking_off, need_parquet, parquet_columns
from producers.sources.locations import Location, copied
from producers.sources.rows import BadRow, Row, Sieve, batches_of, go_to, paged
from producers.sources.text import text_lines
from producers.sources.values import bare, s3_uri
from worker.errors import BadRowError, SourceError, UnknownSourceError

INVENTORY = "manifest.json"

_BLOCK_BYTES = 1 << 20

_COLUMNS = ("bucket", "key", "is_latest", "is_delete_marker", "size", "e_tag")
"""The names in Parquet. A CSV's fileSchema has Bucket, Key, IsLatest, IsDeleteMarker, Size and ETag."""


class _Part(BaseModel):
    key: str
    MD5checksum: str | None = None


class _Inventory(BaseModel):
    destinationBucket: str  # noqa: N815 - S3's name
    fileFormat: str  # noqa: N815
    fileSchema: str = ""  # noqa: N815
    files: tuple[_Part, ...]


class _Place(Cursor):
    """How many rows of a file were read, in the inventory with this ETag. The files before it were read completely."""

    etag: str
    file: int
    rows: int


class InventorySource:
    """The current versions in an inventory, in CSV or Parquet. `where` is its manifest.json, which is read at once.

    Its lists are where manifest.json says. If manifest.json is a file of this machine, they are searched by name beside
    it, in `data` beside it, and in `data` beside its folder (where S3 puts them). One list at a time is copied and
    read. Raises UnknownSourceError if `where` is not such a manifest.json, or names ORC.
    """

    def __init__(self, where: Location, rules: Rules, warn: Warn) -> None:
        self._where, self._rules, self._warn = where, rules, warn
        try:
            with copied(where) as file:
                self._inventory = _Inventory.model_validate_json(file.read())
        except ValidationError as error:
            raise UnknownSourceError(f"{where.uri}: not S3 Inventory's manifest.json: name a .jsonl instead") from error
        self._format = self._inventory.fileFormat.upper()
        if self._format not in {"CSV", "PARQUET"}:
            raise UnknownSourceError(f"{where.uri}: an inventory in {self._format}: ask S3 for CSV or Parquet")
        if self._format == "PARQUET":
            need_parquet(where.uri)

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source. Raises SourceError also if a list is not what manifest.json says."""
        etag = self._where.etag
        start = _Place(etag=etag, file=0, rows=0) if cursor is None else read_cursor(_Place, cursor, self._where.uri)
        if start.etag != etag:
            raise changed(self._where.uri)
        for number in range(start.file, len(self._inventory.files)):
            yield from self._part(number, start.rows if number == start.file else 0)

    def _part(self, number: int, start: int) -> Iterator[Page]:
        part = self._inventory.files[number]
        where = self._located(part.key)
        sieve = Sieve(self._rules, self._warn, f"{where.name} row")
        with copied(where) as file, breaking_off(where.uri):
            _check(file, part, where.uri)
            with closing(self._rows(file, where.uri)) as rows:
                go_to(rows, start, changed(where.uri))
                yield from paged(batches_of(rows), start, sieve, lambda behind: self._cursor(number, behind))

    def _cursor(self, number: int, rows: int) -> str:
        return _Place(etag=self._where.etag, file=number, rows=rows).model_dump_json()

    def _located(self, key: str) -> Location:
        if self._where.path is None:
            bucket = self._inventory.destinationBucket.rpartition(":")[2]  # arn:aws:s3:::bucket
            return replace(self._where, uri=f"s3://{bucket}/{key}")
        folder, name = self._where.path.resolve().parent, key.rpartition("/")[2]
        for path in (folder / name, folder / "data" / name, folder.parent / "data" / name):
            if path.is_file():
                return replace(self._where, uri=str(path), path=path)
        raise SourceError(f"{self._where.uri}: its list {name} is missing: copy the inventory's data folder, too")

    def _rows(self, file: BinaryIO, source: str) -> Generator[Row, None, None]:
        if self._format == "PARQUET":
            for row in parquet_columns(file, source, _COLUMNS):
                yield _row(row, escaped=False)
            return
        names = [column.strip() for column in self._inventory.fileSchema.split(",")]
        with text_lines(file) as lines:
            yield from _csv(lines, names)


def _csv(lines: Iterable[str], names: list[str]) -> Iterator[Row]:
    for values in csv_records(lines):
        if not isinstance(values, list):
            yield values
            continue
        if len(values) != len(names):
            yield BadRow(f"{len(values)} columns, not the {len(names)} of fileSchema")
            continue
        row = dict(zip(names, values, strict=True))
        yield _row(
            {
                "bucket": row.get("Bucket"),
                "key": row.get("Key"),
                "is_latest": row.get("IsLatest", "true") == "true",
                "is_delete_marker": row.get("IsDeleteMarker") == "true",
                "size": row.get("Size") or None,
                "e_tag": row.get("ETag"),
            },
            escaped=True,
        )


def _row(row: dict[str, Any], *, escaped: bool) -> Row:
    if row.get("is_latest") is False:
        return SkipReason.OLD_VERSION
    if row.get("is_delete_marker"):
        return SkipReason.DELETE_MARKER
    try:
        uri = s3_uri(row.get("bucket"), row.get("key"), escaped=escaped)
    except BadRowError as error:
        return BadRow(str(error))
    return {"uri": uri, "etag": bare(row.get("e_tag")), "size": row.get("size")}


def _check(file: BinaryIO, part: _Part, source: str) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    file.seek(0)
    if part.MD5checksum and digest.hexdigest() != part.MD5checksum.lower():
        raise SourceError(
            f"{source}: its MD5 is not the one in manifest.json: copy it again, or ask for a new inventory"
        )
