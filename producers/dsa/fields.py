"""The fields of a statement of reasons and their rules, in one table, and the check of a record against it.

Source: the documentation of the API of the DSA Transparency Database, "Statement Attributes", and the rules of its
published source (github.com/digital-services-act/transparency-database, commit 69e80a0 of 24 June 2026,
StatementStoreRequest.php). Where the two differ, the stricter one is taken: see docs/dsa.md.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum, auto
from typing import Any
from urllib.parse import urlsplit

from producers.dsa import vocabulary as values

Record = Mapping[str, Any]
"""A statement of reasons: a text or a list of texts for each field that is there."""


class Kind(Enum):
    """The form of a value."""

    ONE = auto()  # one of the values
    MANY = auto()  # a list with at least one of the values
    TEXT = auto()  # a text in the words of the platform
    URL = auto()
    DATE = auto()  # YYYY-MM-DD
    PUID = auto()


@dataclass(frozen=True)
class Field:
    """A row of the table.

    `values`: those that are allowed. `longest`: the number of characters that a text may have. `earliest`: the first
    day that a date may be. `with_`: a field and a value of it. If the record has this value, the field must be there
    (`needed`), or may be there; without the value, the field is refused. `after`: the field that holds an earlier day.
    """

    name: str
    kind: Kind
    values: frozenset[str] = frozenset()
    needed: bool = False
    longest: int = 500
    earliest: str = "2000-01-01"
    with_: tuple[str, str] | None = None
    after: str | None = None

    def goes_with(self, record: Record) -> bool:
        """Whether the record has the value that the field needs (`with_`)."""
        if self.with_ is None:
            return True
        name, value = self.with_
        given = record.get(name)
        return value in given if isinstance(given, list) else value == given


ONE, MANY, TEXT, URL, DATE, PUID = Kind.ONE, Kind.MANY, Kind.TEXT, Kind.URL, Kind.DATE, Kind.PUID
_ILLEGAL = ("decision_ground", "DECISION_GROUND_ILLEGAL_CONTENT")
_INCOMPATIBLE = ("decision_ground", "DECISION_GROUND_INCOMPATIBLE_CONTENT")
_OTHER_VISIBILITY = ("decision_visibility", "DECISION_VISIBILITY_OTHER")
_OTHER_MONETARY = ("decision_monetary", "DECISION_MONETARY_OTHER")
_OTHER_CONTENT = ("content_type", "CONTENT_TYPE_OTHER")
_OTHER_KEYWORD = ("category_specification", "KEYWORD_OTHER")
_STARTS = "application_date"

FIELDS = (
    # What the platform does. At least one of the RESTRICTIONS must be there.
    Field("decision_visibility", MANY, values.VISIBILITY),
    Field("decision_visibility_other", TEXT, with_=_OTHER_VISIBILITY, needed=True),
    Field("end_date_visibility_restriction", DATE, after=_STARTS),
    Field("decision_monetary", ONE, values.MONETARY),
    Field("decision_monetary_other", TEXT, with_=_OTHER_MONETARY, needed=True),
    Field("end_date_monetary_restriction", DATE, after=_STARTS),
    Field("decision_provision", ONE, values.PROVISION),
    Field("end_date_service_restriction", DATE, after=_STARTS),
    Field("decision_account", ONE, values.ACCOUNT),
    Field("end_date_account_restriction", DATE, after=_STARTS),
    Field("account_type", ONE, values.ACCOUNT_TYPE),
    # Why.
    Field("decision_facts", TEXT, longest=5000, needed=True),
    Field("decision_ground", ONE, values.GROUND, needed=True),
    Field("decision_ground_reference_url", URL),
    Field("illegal_content_legal_ground", TEXT, with_=_ILLEGAL, needed=True),
    Field("illegal_content_explanation", TEXT, longest=2000, with_=_ILLEGAL, needed=True),
    Field("incompatible_content_ground", TEXT, with_=_INCOMPATIBLE, needed=True),
    Field("incompatible_content_explanation", TEXT, longest=2000, with_=_INCOMPATIBLE, needed=True),
    Field("incompatible_content_illegal", ONE, values.YES_OR_NO, with_=_INCOMPATIBLE),
    Field("category", ONE, values.CATEGORY, needed=True),
    Field("category_addition", MANY, values.CATEGORY),
    Field("category_specification", MANY, values.KEYWORD),
    Field("category_specification_other", TEXT, with_=_OTHER_KEYWORD),
    # What it is about.
    Field("content_type", MANY, values.CONTENT_TYPE, needed=True),
    Field("content_type_other", TEXT, with_=_OTHER_CONTENT, needed=True),
    Field("content_language", ONE, values.LANGUAGE),
    Field("content_date", DATE, needed=True),
    Field("territorial_scope", MANY, values.EEA, needed=True),
    Field("application_date", DATE, earliest="2020-01-01", needed=True),
    # How it was found and decided.
    Field("source_type", ONE, values.SOURCE, needed=True),
    Field("source_identity", TEXT),
    Field("automated_detection", ONE, values.YES_OR_NO, needed=True),
    Field("automated_decision", ONE, values.AUTOMATED_DECISION, needed=True),
    Field("puid", PUID, needed=True),
)
"""The table. Not in it is content_id, which holds the EAN-13 of a product: a picture has none."""

RESTRICTIONS = ("decision_visibility", "decision_monetary", "decision_provision", "decision_account")

LATEST = "2038-01-01"
"""The last day that any date may be."""

_BY_NAME = {field.name: field for field in FIELDS}
_PUID = re.compile(r"[a-zA-Z0-9_-]+")


@dataclass(frozen=True)
class Fault:
    """What is wrong with a field of a record."""

    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.field} {self.text}"


def faults(record: Record) -> list[Fault]:
    """Returns everything that is wrong with a record, in the order of the table. An empty list: it passes."""
    found = [Fault(name, "is no field of a statement of reasons") for name in record if name not in _BY_NAME]
    if not any(record.get(name) for name in RESTRICTIONS):
        found.append(Fault(RESTRICTIONS[0], f"is missing: one of {', '.join(RESTRICTIONS)} must say what is done"))
    for field in FIELDS:
        found += [Fault(field.name, text) for text in _presence(field, record)]
        if record.get(field.name) is not None:
            found += [Fault(field.name, text) for text in _value(field, record)]
    if record.get("source_type") == "SOURCE_VOLUNTARY" and record.get("source_identity"):
        found.append(Fault("source_identity", "does not go with SOURCE_VOLUNTARY: nobody notified the platform"))
    return found


def _presence(field: Field, record: Record) -> Iterator[str]:
    is_there = record.get(field.name) not in (None, "", [])
    if field.with_ is None:
        if field.needed and not is_there:
            yield "is missing"
        return
    name, value = field.with_
    if field.goes_with(record) and field.needed and not is_there:
        yield f"is missing: {name} is {value}"
    if is_there and not field.goes_with(record):
        yield f"goes only with {name} {value}"


def _value(field: Field, record: Record) -> Iterator[str]:
    value = record[field.name]
    if field.kind is Kind.MANY:
        if not isinstance(value, list) or not value:
            yield "must be a list with at least one value"
            return
        yield from (f"has the unknown value {one!r}" for one in value if str(one) not in field.values)
    elif not isinstance(value, str):
        yield "must be text"
    elif field.kind is Kind.ONE:
        if value not in field.values:
            yield f"has the unknown value {value!r}"
    elif field.kind is Kind.DATE:
        yield from _day(field, value, record)
    else:
        yield from _text(field, value)


def _text(field: Field, value: str) -> Iterator[str]:
    if len(value) > field.longest:
        yield f"has {len(value)} characters, and may have {field.longest}"
    if not value.strip():
        yield "is empty"
    elif field.kind is Kind.URL and not _is_url(value):
        yield f"must be an address such as https://example.org/terms, and is {value!r}"
    elif field.kind is Kind.PUID and not _PUID.fullmatch(value):
        yield f"may have only letters, digits, - and _, and is {value!r}"


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:  # such as https://[x
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not re.search(r"\s", value)


def _day(field: Field, value: str, record: Record) -> Iterator[str]:
    try:
        day = date.fromisoformat(value) if len(value) == len("2026-11-27") else None
    except ValueError:
        day = None
    if day is None:
        yield f"must be a day such as 2026-11-27, and is {value!r}"
        return
    earliest = record.get(field.after) if field.after else field.earliest
    if isinstance(earliest, str) and value < earliest:
        yield f"is before {field.after or earliest}: {value}"
    if value > LATEST:
        yield f"is after {LATEST}: {value}"
