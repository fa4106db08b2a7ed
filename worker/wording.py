"""Says what is wrong with a value in plain English, because pydantic's own messages are written for programmers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_NUMBER, _WHOLE, _TEXT = "must be a number", "must be a whole number", "must be text"
_BOOLEAN = "must be true or false"
_TIME = "must be a time, such as 2026-11-27T02:00:00+00:00"
_DATE = "must be a date, such as 2026-11-27"
_UUID = "must be an id, such as 123e4567-e89b-12d3-a456-426614174000"
_LIST, _TABLE = "must be a list", "must be a table with names and values"

_TEXTS = {
    "missing": "is missing",
    "missing_argument": "is missing",
    "extra_forbidden": "is not a known name: check its spelling",
    "unexpected_keyword_argument": "is not a known name: check its spelling",
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE + " of at most 4,300 digits",
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_parsing": _BOOLEAN,
    "bool_type": _BOOLEAN,
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "string_type": _TEXT,
    "string_unicode": "must be text in UTF-8",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have {max_length} or fewer characters",
    "string_pattern_mismatch": "has the wrong form: it must match {pattern}",
    "too_short": "must have {min_length} or more entries, and has {actual_length}",
    "too_long": "must have {max_length} or fewer entries",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "iterable_type": _LIST,
    "dict_type": _TABLE,
    "mapping_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "dataclass_type": _TABLE,
    "uuid_parsing": _UUID,
    "uuid_type": _UUID,
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "timezone_aware": "must be a time with a time zone, such as 2026-11-27T02:00:00+00:00",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "url_type": "must be an address, such as https://example.org",
    "url_parsing": "must be an address, such as https://example.org",
    "url_scheme": "must be an address that begins with {expected_schemes}",
    "path_type": "must be a path",
    "path_not_file": "must be the path of a file that is there",
    "path_not_directory": "must be the path of a folder that is there",
    "none_required": "must be empty",
    "json_invalid": "is not JSON: {error}",
    "json_type": "must be JSON",
    "union_tag_not_found": "does not say of which kind it is: {discriminator} is missing",
    "union_tag_invalid": "is of an unknown kind: {discriminator} must be one of {expected_tags}",
}
"""What a fault's type means, with the values that pydantic gives with it
(https://docs.pydantic.dev/latest/errors/validation_errors/).
"""


def worded(fault: "ErrorDetails | Mapping[str, Any]") -> str:
    """Says what is wrong with a value, so that it fits after the value's name: `must be 1 or more`.

    `fault` is one of pydantic's `errors()`. The text of an error that our own validators raise stays as it is.
    """
    given = {name: _plain(value) for name, value in (fault.get("ctx") or {}).items()}
    if fault["type"] in {"value_error", "assertion_error"} and "error" in given:
        return str(given["error"])
    if fault["type"] in _TEXTS:
        return _TEXTS[fault["type"]].format_map(_Named(given))
    text = fault["msg"].removeprefix("Value error, ").replace("Input should", "must")
    return text[:1].lower() + text[1:]


def first_fault(error: "ValidationError") -> str:
    """Returns the text of the first fault, without its place."""
    return worded(error.errors()[0])


class _Named(dict[str, Any]):
    """Values by name. `…` stands for a value that pydantic does not give."""

    def __missing__(self, name: str) -> str:
        return "…"


def _plain(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
