"""Reads many JSON Lines at once, if all of them name their image in the plainest way.

Nearly all manifests are like this. Anything unusual is left to formats.json_lines, which understands every form and
says what is wrong. Both give the same refs.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from pydantic_core import from_json

from producers.sources.formats import json_lines
from producers.sources.rows import PAGE_ROWS, Batch
from producers.sources.values import ETAGS, IDS, URI_COLUMNS
from worker.messages import MAX_URI_BYTES
from worker.refs import ImageRefs

_URIS = re.compile(r"(?:s3://[^/\n]+/[^\n]+\n)*")
_URI_NAMES, _ETAG_NAMES, _ID_NAMES = frozenset(URI_COLUMNS), frozenset(ETAGS), frozenset(IDS)


TRIES = 3
"""After so many batches in a row that are not plain, the rest of the file is read line by line."""


def json_batches(lines: Iterator[str]) -> Iterator[Batch]:
    """Reads JSON Lines in batches. A batch whose lines are all plain becomes refs; any other batch becomes rows."""
    tries = TRIES
    while batch := list(islice(lines, PAGE_ROWS)):
        refs = plain_refs(batch) if tries else None
        tries = TRIES if refs else max(0, tries - 1)
        yield list(json_lines(batch)) if refs is None else refs


def plain_refs(lines: Sequence[str]) -> ImageRefs | None:
    """Returns a ref for each line, or None if the lines are not plain. Then each line must be read on its own.

    Plain means: every line is an object with an `s3://` uri under the same name, and perhaps an ETag without quotes, a
    size and an external id. Everything is ASCII, and no object contains a brace.
    """
    rows = _objects(lines)
    if rows is None:
        return None
    names = set().union(*rows)
    columns = [names & _URI_NAMES, names & _ETAG_NAMES, names & {"size"}, names & _ID_NAMES]
    if len(columns[0]) != 1 or max(map(len, columns)) > 1 or sum(map(len, columns)) != len(names):
        return None
    uris, etags, sizes, ids = (_column(rows, *name) for name in columns)
    if _are_uris(uris) and _are_texts(etags, 256, but='"') and _are_sizes(sizes) and _are_texts(ids, 1024):
        return ImageRefs(uris, etags, sizes, ids)
    return None


def _objects(lines: Sequence[str]) -> list[dict[str, Any]] | None:
    """Returns the object in each line, or None if there is anything else, or a brace within an object."""
    # Each line opens with its only "{" and closes with its only "}", so no object reaches into the next line. Neither
    # can a text: JSON allows no line break in one.
    joined = ",".join(lines)
    if joined.count("{") != len(lines) or joined.count("}") != len(lines):
        return None
    if not all(line.startswith("{") and line.rstrip().endswith("}") for line in lines):
        return None
    try:
        rows: list[Any] = from_json(f"[{joined}]", cache_strings="keys")
    except (ValueError, TypeError, RecursionError):
        return None
    return rows if len(rows) == len(lines) and set(map(type, rows)) == {dict} else None


def _column(rows: list[dict[str, Any]], name: str = "") -> list[Any]:
    return [row.get(name) for row in rows] if name else [None] * len(rows)


def _are_uris(uris: list[Any]) -> bool:
    if set(map(type, uris)) != {str} or max(map(len, uris)) > MAX_URI_BYTES:
        return False
    text = "\n".join(uris) + "\n"
    return text.isascii() and "\0" not in text and text.count("\n") == len(uris) and _URIS.fullmatch(text) is not None


def _are_texts(values: list[Any], longest: int, but: str = "\0") -> bool:
    """Whether each value is None, or a text of 1 to `longest` ASCII characters without NUL and without `but`."""
    texts = [value for value in values if value is not None]
    if not texts:
        return True
    if set(map(type, texts)) != {str} or "" in texts or max(map(len, texts)) > longest:
        return False
    joined = "".join(texts)
    return joined.isascii() and "\0" not in joined and but not in joined


def _are_sizes(values: list[Any]) -> bool:
    sizes = [value for value in values if value is not None]
    return not sizes or (set(map(type, sizes)) == {int} and min(sizes) >= 0 and max(sizes) < 2**63)
