"""The formats of findings: which one a request wants, and how it is written."""

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from producers.reporting.csv_findings import csv_pieces
from producers.web.api.problems import ProblemError


class Form(StrEnum):
    """A format of findings, by the name that the parameter `format` uses."""

    JSON = "json"
    JSON_LINES = "ndjson"
    CSV = "csv"


MEDIA_TYPES = {Form.JSON: "application/json", Form.JSON_LINES: "application/x-ndjson", Form.CSV: "text/csv"}
"""The media types of the formats. The first one that the client accepts is used."""


def wanted(accept: str | None) -> Form:
    """Returns the format that an Accept header prefers. Raises ProblemError (406)."""
    if not accept:
        return Form.JSON
    weights = dict(_weights(accept))
    best = max(Form, key=lambda form: _weight(MEDIA_TYPES[form], weights))
    if _weight(MEDIA_TYPES[best], weights) <= 0:
        raise ProblemError(406, f"findings can be had as {', '.join(MEDIA_TYPES.values())}")
    return best


def _weights(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.split(","):
        name, *options = (word.strip().lower() for word in part.split(";"))
        given = [option[2:] for option in options if option.startswith("q=")]
        try:
            yield name, float(given[0]) if given else 1.0
        except ValueError:
            yield name, 0.0


def _weight(media_type: str, weights: Mapping[str, float]) -> float:
    ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
    return next((weights[one] for one in ranges if one in weights), 0.0)


def written(form: Form, batches: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    """Yields the findings as JSON Lines or CSV, in pieces."""
    if form is Form.CSV:
        yield from csv_pieces(batches)
        return
    for batch in batches:
        yield "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in batch)
