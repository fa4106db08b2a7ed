"""Where images come from: S3 listings, S3 Inventory, manifests, folders and standard input.

Each is a `producers.listing.Source`. It lists its images in pages, holds few of them at a time, and can continue from
the cursor of any page.
"""

import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from producers.listing import Rules, Source, Warn
from producers.sources.folders import FolderSource, SingleFile
from producers.sources.given import given_uri
from producers.sources.inventory import INVENTORY, InventorySource
from producers.sources.locations import Location, local
from producers.sources.manifests import MANIFESTS, ManifestSource, StandardInput
from producers.sources.piped import standard_input
from worker.errors import BadRowError, UnknownSourceError
from worker.files import local_path

STANDARD_INPUT = "-"

LOOKED_AT = 4096
"""Bytes of a file that show whether it is text."""

_NEVER_IN_TEXT = frozenset(range(32)) - frozenset(b"\t\n\f\r\x1b")
"""Control characters. Every format of images has one among its first bytes."""


def absolute(source: str) -> str:
    """Returns the source in the form that a scan stores.

    A path becomes an absolute `file:///…` uri, which means the same in every folder, and is text even if a name is not
    UTF-8. Other sources stay as they are. A `file:` uri may be percent-encoded or not: see given.py.
    Raises UnknownSourceError for a text that cannot be a path, and for a name in S3 that is not UTF-8.
    """
    if source == STANDARD_INPUT:
        return source
    if source.startswith(("s3://", "file:///")):
        try:
            source = given_uri(source)
        except BadRowError as error:
            raise UnknownSourceError(f"{error}; or give s3://bucket/prefix") from None
    return source if source.startswith("s3://") else _path(source).as_uri()


def open_source(sources: Sequence[str], rules: Rules, warn: Warn, *, stdin: BinaryIO | None = None) -> Source:
    """Opens one folder, `file:///…` uri, file, manifest, S3 Inventory's manifest.json or "-", or several S3 prefixes.

    "-" reads `stdin`, or the process's standard input if it is None. Raises UnknownSourceError at once if there is no
    such source, and SourceError if S3 does not allow us to look.
    """
    if not sources:
        raise UnknownSourceError("no source: give s3://bucket/prefix, a folder, a manifest or -")
    if all(source.startswith("s3://") for source in sources):
        return _in_s3(sources, rules, warn)
    if len(sources) > 1:
        raise UnknownSourceError("several sources must all be s3://bucket/prefix: give anything else on its own")
    if sources[0] == STANDARD_INPUT:
        return StandardInput(stdin or standard_input(), rules, warn)
    return _of_this_machine(sources[0], rules, warn)


def _in_s3(sources: Sequence[str], rules: Rules, warn: Warn) -> Source:
    from producers.sources import objects, s3  # noqa: PLC0415 - boto3 takes 0.5 s, and other sources do not need it

    client = objects.s3_client()
    for source in sources:
        if source.lower().endswith((*MANIFESTS, f"/{INVENTORY}")):
            uri = str(s3.parsed(source))
            etag = objects.etag(client, uri)
            if etag is not None and len(sources) > 1:
                raise UnknownSourceError(f"{source}: a manifest: give it on its own")
            if etag is not None:
                return _listed_in(Location(uri, etag, client=client), rules, warn)
    return s3.S3Source(s3.prefixes(sources, warn), rules, warn, client=client)


def _of_this_machine(source: str, rules: Rules, warn: Warn) -> Source:
    path = _path(source)
    if path.is_dir():
        return FolderSource(path, rules, warn)
    if path.is_file() and (path.name == INVENTORY or path.name.lower().endswith(MANIFESTS)):
        return _listed_in(local(path), rules, warn)
    if path.is_file():
        _check_no_list(path, source)
        return SingleFile(path.resolve(), rules, warn)
    raise UnknownSourceError(f"{source}: not found: give s3://bucket/prefix, or a folder or file of this machine")


def _check_no_list(path: Path, source: str) -> None:
    """Refuses a text file that is not named like an image: it would be judged as one. Raises UnknownSourceError."""
    if (mimetypes.guess_type(path.name)[0] or "").startswith("image/"):
        return
    try:
        with path.open("rb") as file:
            begin = file.read(LOOKED_AT)
    except OSError as error:
        raise UnknownSourceError(f"{source}: cannot be read: {error.strerror}") from None
    if begin and not any(byte in _NEVER_IN_TEXT for byte in begin):
        raise UnknownSourceError(
            f"{source}: a text file, and not an image. If it is a list of images, give it a name that ends with "
            ".txt, .csv or .jsonl, or pipe it in: fakesweep scan - < FILE"
        )


def _path(source: str) -> Path:
    """Returns the absolute path. Follows links to folders. A link to a file keeps its name, which tells the format."""
    try:
        path = local_path(source) if source.startswith("file://") else Path(source).expanduser()
        where = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    except (ValueError, RuntimeError, OSError) as error:
        raise UnknownSourceError(f"{source!r}: not a path: {error}: give s3://bucket/prefix or a path") from error
    # An empty text would mean the current folder, and file://photos/x would mean a file /x.
    if not source or "\0" in str(where) or (source.startswith("file://") and not source.startswith("file:///")):
        raise UnknownSourceError(f"{source!r}: not a path: give s3://bucket/prefix, a path or file:///path")
    return where


def _listed_in(where: Location, rules: Rules, warn: Warn) -> Source:
    return (InventorySource if where.name == INVENTORY else ManifestSource)(where, rules, warn)
