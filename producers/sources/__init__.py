"""Where images come from: S3 listings, S3 Inventory, manifests, folders and standard input.

Each is a `producers.listing.Source`. It lists its images in pages, holds few of them at a time, and can continue from
the cursor of any page.
"""

import mimetypes
import os
import re
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
"""Bytes of a file that show whether it is text, or an image."""

_SOURCES = "give s3://bucket/prefix, or a folder or file of this machine"

_OF_ANOTHER_KIND = re.compile(r"""\s|['"`]|[A-Za-z][A-Za-z0-9+.-]*:|\\\\""")
"""How a text begins that is hardly a path: with a space, a quotation mark, a scheme, a drive or a host of Windows."""

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
    if source.startswith("s3://"):
        return source
    path = _path(source)
    if _OF_ANOTHER_KIND.match(source) and not source.startswith("file:///") and not os.path.lexists(path):
        raise UnknownSourceError(f"{source!r}: not a source: {_SOURCES}")
    return path.as_uri()


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
        check_image(path)
        return SingleFile(path.resolve(), rules, warn)
    raise UnknownSourceError(f"{path}: not found: {_SOURCES}")


def check_image(path: Path) -> None:
    """Refuses a folder, and a file that is neither an image nor named like one: it would be judged as one.

    What is not there is not refused: a worker may see another disk. Raises UnknownSourceError.
    """
    if path.is_dir():
        raise UnknownSourceError(f"{path}: a folder, and not an image: `fakesweep scan` takes folders")
    if not path.is_file() or (mimetypes.guess_type(path.name)[0] or "").startswith("image/"):
        return
    try:
        with path.open("rb") as file:
            begin = file.read(LOOKED_AT)
    except OSError as error:
        raise UnknownSourceError(f"{path}: cannot be read: {error.strerror}") from None
    if begin and not any(byte in _NEVER_IN_TEXT for byte in begin):
        raise UnknownSourceError(
            f"{path}: a text file, and not an image. If it is a list of images, give it a name that ends with "
            ".txt, .csv or .jsonl, or pipe it in: fakesweep scan - < FILE"
        )
    if begin and not _is_picture(begin):
        raise UnknownSourceError(f"{path}: not an image. If images are packed in it, unpack them into a folder")


def _is_picture(begin: bytes) -> bool:
    """Says whether a file begins like an image, of any format."""
    from worker.errors import ImageError, Reason  # noqa: PLC0415
    from worker.images.formats import format_of  # noqa: PLC0415 - Pillow takes time, and other sources do not need it

    try:
        format_of(begin)
    except ImageError as error:
        return error.reason is not Reason.NOT_AN_IMAGE
    return True


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
