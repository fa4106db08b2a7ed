"""Lists folders of this machine. The files of a folder come first, then its subfolders, both sorted by name."""

import hashlib
import itertools
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from producers.listing import Page, Rules, SkipReason, Warn
from producers.sources.cursors import Cursor, read_cursor
from producers.sources.rows import PAGE_ROWS, Sieve
from worker.errors import SourceError
from worker.files import file_etag


class _Last(Cursor):
    """The path of the last listed file, relative to the folder. Its parts are percent-encoded: they may not be UTF-8.

    `root` is the folder's digest. It is None in cursors of releases that did not store it.
    """

    path: tuple[str, ...]
    root: str | None = None


class FolderSource:
    """Every file in and below a folder. Links to folders are not followed. Holds the names of one folder at a time."""

    def __init__(self, folder: Path, rules: Rules, warn: Warn, *, page_files: int = PAGE_ROWS) -> None:
        self._folder, self._rules, self._warn, self._page_files = folder, rules, warn, page_files

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source. Files before the cursor are not looked at again."""
        sieve = Sieve(self._rules, self._warn)
        last: tuple[str, ...] = ()
        root = hashlib.blake2b(os.fsencode(self._folder), digest_size=8).hexdigest()
        if cursor is not None:
            begun = read_cursor(_Last, cursor, str(self._folder))
            if begun.root not in {root, None}:
                raise SourceError(f"{self._folder}: its cursor is of another folder: give the one the scan began with")
            last = tuple(os.fsdecode(unquote_to_bytes(part)) for part in begun.path)
        files, end = self._files(last, sieve), _Last(path=(), root=root)
        while batch := list(itertools.islice(files, self._page_files)):
            for path in batch:
                _take(sieve, path)
            parts = batch[-1].relative_to(self._folder).parts
            end = _Last(path=tuple(quote_from_bytes(os.fsencode(part)) for part in parts), root=root)
            yield sieve.page(end.model_dump_json())
        if sieve.skipped:
            yield sieve.page(end.model_dump_json() if cursor is None or end.path else cursor)

    def _files(self, last: tuple[str, ...], sieve: Sieve) -> Iterator[Path]:
        def broken(error: OSError) -> None:
            self._warn(f"{error.filename}: {error.strerror}: skipped")
            sieve.skip(SkipReason.UNREADABLE)

        for parent, folders, names in os.walk(self._folder, onerror=broken):
            folders.sort()
            names.sort()
            here = Path(parent).relative_to(self._folder).parts
            depth = len(here)
            if here == last[:depth] and depth < len(last) - 1:
                # This folder is on the way to the last file: its own files came before.
                del folders[: bisect_left(folders, last[depth])]
                continue
            begin = bisect_right(names, last[-1]) if last and here == last[:-1] else 0
            yield from (Path(parent, name) for name in names[begin:])


class SingleFile:
    """One image."""

    def __init__(self, path: Path, rules: Rules, warn: Warn) -> None:
        self._path, self._rules, self._warn = path, rules, warn

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source."""
        if cursor is None:
            sieve = Sieve(self._rules, self._warn)
            _take(sieve, self._path)
            yield sieve.page(_Last(path=()).model_dump_json())


def _take(sieve: Sieve, path: Path) -> None:
    try:
        facts = path.stat()
    except OSError:
        # It was deleted in the meantime, or is a broken link. It is still listed, and its outcome will say so.
        sieve.take({"uri": path.as_uri()})
    else:
        sieve.take({"uri": path.as_uri(), "etag": file_etag(facts), "size": facts.st_size})
