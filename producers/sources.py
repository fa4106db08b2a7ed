"""Where images come from: S3 listings, folders, manifests. Each yields ImageRefs in order and holds few of them."""

import csv
import gzip
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_plus

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from worker.errors import FakesweepError
from worker.messages import ImageRef
from worker.storage import file_etag, local_path

Skip = Callable[[str], None]
"""Told, in one line, of everything in a source that is passed over."""

MANIFESTS = (".jsonl", ".csv", ".csv.gz", ".parquet")


class SourceError(FakesweepError):
    """The source cannot be read; the text says which and why."""


class UnknownSourceError(SourceError):
    """The source is not there, or nothing that can be listed: bad usage."""


def list_source(source: str, skip: Skip) -> Iterator[ImageRef]:
    """The images of `s3://bucket/prefix`, of a folder (or `file:///…`), or of a manifest file.

    Raises UnknownSourceError at once when there is no such source, SourceError when reading it breaks off.
    """
    if source.startswith("s3://"):
        bucket, _, prefix = source.removeprefix("s3://").partition("/")
        if not bucket:
            raise UnknownSourceError(f"{source}: give s3://bucket/prefix")
        return _s3(bucket, prefix, skip)
    path = local_path(source) if source.startswith("file://") else Path(source).expanduser()
    if path.is_dir():
        return _folder(path.resolve(), skip)
    if path.is_file() and path.name.endswith(MANIFESTS):
        return _distinct(_manifest(path, skip), skip)
    if path.is_file():
        return iter([_file_ref(path.resolve())])
    raise UnknownSourceError(f"{source}: neither s3://bucket/prefix, nor a folder, nor a file of this machine")


def _s3(bucket: str, prefix: str, skip: Skip) -> Iterator[ImageRef]:
    config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 6})
    try:
        paginator = boto3.session.Session().client("s3", config=config).get_paginator("list_objects_v2")
        for page in paginator.paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", ()):
                ref = _ref(skip, uri=f"s3://{bucket}/{found['Key']}", etag=found["ETag"].strip('"'), size=found["Size"])
                if ref:
                    yield ref
    except (BotoCoreError, ClientError) as error:
        raise SourceError(f"s3://{bucket}/{prefix}: cannot be listed: {error}") from error


def _ref(skip: Skip, **fields: Any) -> ImageRef | None:
    try:
        return ImageRef(**fields)
    except ValidationError as error:
        skip(f"{fields.get('uri')!r}: {error.errors()[0]['msg']}")
        return None


def _folder(folder: Path, skip: Skip) -> Iterator[ImageRef]:
    def broken(error: OSError) -> None:
        skip(f"{error.filename}: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=broken):
        folders.sort()
        for name in sorted(names):
            ref = _file_ref_or_none(Path(parent) / name, skip)
            if ref:
                yield ref


def _file_ref_or_none(path: Path, skip: Skip) -> ImageRef | None:
    try:
        facts = path.stat()
    except OSError:
        # Gone since, or a link to nowhere: still listed, and its outcome will say so.
        return _ref(skip, uri=path.as_uri())
    return _ref(skip, uri=path.as_uri(), etag=file_etag(facts), size=facts.st_size)


def _file_ref(path: Path) -> ImageRef:
    facts = path.stat()
    return ImageRef(uri=path.as_uri(), etag=file_etag(facts), size=facts.st_size)


def _distinct(refs: Iterable[ImageRef], skip: Skip) -> Iterator[ImageRef]:
    """Drops what a manifest names twice. Sixteen bytes an image are held, not its uri."""
    seen: set[bytes] = set()
    for ref in refs:
        digest = hashlib.blake2b(ref.uri.encode(), digest_size=16).digest()
        if digest in seen:
            skip(f"{ref.uri}: named before in this source")
            continue
        seen.add(digest)
        yield ref


def _manifest(path: Path, skip: Skip) -> Iterator[ImageRef]:
    try:
        if path.name.endswith(".parquet"):
            yield from _parquet(path, skip)
            return
        with _opened(path) as lines:
            yield from (_json_lines if path.suffix == ".jsonl" else _inventory_csv)(lines, path.name, skip)
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error


def _opened(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _json_lines(lines: Iterable[str], name: str, skip: Skip) -> Iterator[ImageRef]:
    """Rekognition's form: an object a line with `source-ref`; `external_id`, `etag` and `size` may stand beside it."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            uri = entry["source-ref"]
        except (ValueError, KeyError, TypeError):
            skip(f"{name} line {number}: no JSON object with source-ref")
            continue
        external_id = entry.get("external_id", entry.get("external-id"))
        fields = {"uri": uri, "etag": entry.get("etag"), "size": entry.get("size"), "external_id": external_id}
        ref = _ref(lambda text, at=number: skip(f"{name} line {at}: {text}"), **fields)  # type: ignore[misc]
        if ref:
            yield ref


def _inventory_csv(lines: Iterable[str], name: str, skip: Skip) -> Iterator[ImageRef]:
    """S3 Inventory without its manifest.json: bucket and URL-encoded key are the first two columns, always."""
    for number, row in enumerate(csv.reader(lines), start=1):
        if len(row) < 2 or not row[0] or not row[1]:  # noqa: PLR2004 - bucket and key
            skip(f"{name} line {number}: no bucket and key")
            continue
        ref = _ref(skip, uri=f"s3://{row[0]}/{unquote_plus(row[1])}")
        if ref:
            yield ref


def _parquet(path: Path, skip: Skip) -> Iterator[ImageRef]:
    try:
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ImportError:
        raise UnknownSourceError(f"{path}: reading Parquet needs fakesweep[parquet]") from None
    table = parquet.ParquetFile(path)
    wanted = [name for name in ("bucket", "key", "e_tag", "size") if name in table.schema_arrow.names]
    if not {"bucket", "key"} <= set(wanted):
        raise UnknownSourceError(f"{path}: no columns bucket and key, which S3 Inventory has")
    for batch in table.iter_batches(columns=wanted):
        for row in batch.to_pylist():
            uri = f"s3://{row['bucket']}/{unquote_plus(row['key'])}"
            ref = _ref(skip, uri=uri, etag=(row.get("e_tag") or "").strip('"') or None, size=row.get("size"))
            if ref:
                yield ref
