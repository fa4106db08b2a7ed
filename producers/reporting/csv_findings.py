"""Findings as CSV, for spreadsheets."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

COLUMNS = ("uri", "external_id", "outcome", "verdict", "score", "answer", "explanation", "contradicts", "cut_off",
           "reason", "detail", "etag", "sha256", "width", "height", "detector", "reused_from", "attempts",
           "decided_at", "c2pa", "declared", "stage", "first_score", "detectors_differ")  # fmt: skip

_PROVENANCE = {"c2pa", "declared"}
"""Columns that are fields of `provenance`."""
_OPTIONAL = {"detectors_differ"}
"""Columns that rows without second opinions lack."""

_OBEYED = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet takes a cell that begins with one of these for a formula."""


def csv_pieces(batches: Iterable[Iterable[Mapping[str, Any]]]) -> Iterator[str]:
    """The findings as CSV (RFC 4180) with a line of names first, in pieces: one for the names, one for each batch.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    yield _csv([COLUMNS])
    for batch in batches:
        yield _csv([_cell(row, name) for name in COLUMNS] for row in batch)


def _csv(rows: Iterable[Iterable[object]]) -> str:
    target = io.StringIO()
    csv.writer(target, lineterminator="\r\n").writerows(rows)
    return target.getvalue()


def _cell(row: Mapping[str, Any], name: str) -> object:
    value: Any = row.get(name) if name in _OPTIONAL else _value(row, name)
    if name == "detector":
        value = value and value["name"]
    return f"'{value}" if isinstance(value, str) and value.startswith(_OBEYED) else value


def _value(row: Mapping[str, Any], name: str) -> Any:
    return (row["provenance"] or {}).get(name) if name in _PROVENANCE else row[name]
