"""The form of a row as a line of JSON. The same row always gives the same bytes."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID


def line_of(row: Mapping[str, Any]) -> bytes:
    """Returns a row as a line of JSON in UTF-8, with its columns in their order and no spaces.

    Times are in UTC, with microseconds. JSON has no NaN and no infinity: both become null.
    """
    return json_bytes({name: _plain(value) for name, value in row.items()}) + b"\n"


def json_bytes(value: Any) -> bytes:
    """Returns JSON in UTF-8 without spaces, in which characters outside ASCII are not escaped."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        case UUID() | date():
            return str(value)
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
