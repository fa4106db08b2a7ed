"""Where images come from: S3 listings, S3 Inventory, manifests, folders and standard input.

Each is a `producers.listing.Source`: it gives its images in pages, holds few of them at a time, and goes on from the
cursor of any page.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from producers.listing import Rules, Source, UnknownSourceError, Warn
from producers.sources import s3
from producers.sources.folders import FolderSource, SingleFile
from producers.sources.inventory import INVENTORY, InventorySource
from producers.sources.manifests import MANIFESTS, ManifestSource, StandardInput
from producers.sources.objects import Location, head, local, s3_client
from worker.storage import local_path

STANDARD_INPUT = "-"


def open_source(sources: Sequence[str], rules: Rules, warn: Warn, *, stdin: BinaryIO | None = None) -> Source:
    """One folder, `file:///…` uri, file, manifest, S3 Inventory's manifest.json or "-"; or several `s3://…` prefixes.

    "-" is `stdin`, else the process's standard input. Raises UnknownSourceError at once when there is no such source,
    SourceError when S3 does not let us look.
    """
    if not sources:
        raise UnknownSourceError("no source: give s3://bucket/prefix, a folder, a manifest or -")
    if all(source.startswith("s3://") for source in sources):
        return _in_s3(sources, rules, warn)
    if len(sources) > 1:
        raise UnknownSourceError("several sources must all be s3://bucket/prefix: give anything else on its own")
    if sources[0] == STANDARD_INPUT:
        return StandardInput(stdin or sys.stdin.buffer, rules, warn)
    return _of_this_machine(sources[0], rules, warn)


def _in_s3(sources: Sequence[str], rules: Rules, warn: Warn) -> Source:
    client = s3_client()
    for source in sources:
        if source.endswith((*MANIFESTS, f"/{INVENTORY}")):
            found = head(client, *s3.parsed(source))
            if found and len(sources) > 1:
                raise UnknownSourceError(f"{source}: a manifest: give it on its own")
            if found:
                return _listed_in(found, rules, warn)
    return s3.S3Source(s3.prefixes(sources, warn), rules, warn, client=client)


def _of_this_machine(source: str, rules: Rules, warn: Warn) -> Source:
    path = local_path(source) if source.startswith("file://") else Path(source).expanduser()
    if path.is_dir():
        return FolderSource(path.resolve(), rules, warn)
    if path.is_file() and (path.name == INVENTORY or path.name.endswith(MANIFESTS)):
        return _listed_in(local(path), rules, warn)
    if path.is_file():
        return SingleFile(path.resolve(), rules, warn)
    raise UnknownSourceError(f"{source}: not there: give s3://bucket/prefix, or a folder or file of this machine")


def _listed_in(where: Location, rules: Rules, warn: Warn) -> Source:
    return (InventorySource if where.name == INVENTORY else ManifestSource)(where, rules, warn)
