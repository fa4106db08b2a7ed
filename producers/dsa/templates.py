"""Reads the file in which a platform says what it does with pictures that its people call fake."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from producers.dsa.fields import FIELDS, Fault, Kind, Record, faults
from producers.dsa.personal import personal, personal_in_url
from producers.dsa.vocabulary import EEA, EU
from worker.errors import UsageError

_DEFAULTS: Record = {
    "content_type": ["CONTENT_TYPE_IMAGE", "CONTENT_TYPE_SYNTHETIC_MEDIA"],
    "source_type": "SOURCE_VOLUNTARY",
    # The review desk shows the detector's verdict to the person who decides.
    "automated_decision": "AUTOMATED_DECISION_PARTIALLY",
}
"""What the file may replace."""

_OURS: Record = {
    "automated_detection": "Yes",
    "content_date": "2026-11-27",
    "application_date": "2026-11-27",
    "puid": "fakesweep-1",
}
"""Fields that the export fills in, with values for the check of a template."""

_SCOPES = {"EU": EU, "EEA": EEA}


@dataclass(frozen=True)
class Templates:
    """The fields of every statement, and other values of them by the reason code of the decision."""

    fields: Record
    by_reason: Mapping[str, Record] = field(default_factory=dict)

    def record(self, reason: str | None) -> dict[str, Any]:
        """Returns the fields of a statement for a decision with this reason code."""
        return {**_DEFAULTS, **self.fields, **self.by_reason.get(reason or "", {})}

    def check_names(self, names: list[str]) -> None:
        """Raises UsageError, with the place, if a text has the name of a reviewer."""
        _refuse(self, lambda record: _personal_in(record, names))


def read_templates(path: Path) -> Templates:
    """Reads the file. Raises UsageError, with the place of the first fault, for a file that cannot be read, for fields
    that break a rule of the database, and for texts with personal data.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    unknown = set(content) - {"statement", "reason"}
    if unknown or not isinstance(content.get("statement"), dict) or not _is_tables(content.get("reason", {})):
        raise UsageError(f"{path}: must hold a table [statement], tables [reason.CODE], and nothing else")
    reasons = {code: _with_scope(fields) for code, fields in content.get("reason", {}).items()}
    templates = Templates(_with_scope(content["statement"]), reasons)
    _refuse(templates, _faults_of_template, f"{path}: ")
    return templates


def _is_tables(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())


def _with_scope(fields: Record) -> Record:
    scope = fields.get("territorial_scope")
    return {**fields, "territorial_scope": sorted(_SCOPES[scope])} if scope in ("EU", "EEA") else fields


def _refuse(templates: Templates, check: Any, where: str = "") -> None:
    for reason in ("", *templates.by_reason):
        place = f"[reason.{reason}]" if reason else "[statement]"
        given = {**templates.fields, **templates.by_reason.get(reason, {})}
        for fault in check(given):
            raise UsageError(f"{where}{place}: {fault}")


def _faults_of_template(given: Record) -> Iterator[Fault]:
    yield from (Fault(name, "is filled in by the export: leave it out") for name in given if name in _OURS)
    yield from faults({**_DEFAULTS, **given, **_OURS})
    if given.get("automated_decision") == "AUTOMATED_DECISION_FULLY":
        yield Fault("automated_decision", "cannot be AUTOMATED_DECISION_FULLY: people decide at the review desk")
    yield from _personal_in(given, [])


def _personal_in(record: Record, names: list[str]) -> Iterator[Fault]:
    for one in FIELDS:
        text = record.get(one.name)
        if one.kind is Kind.TEXT and isinstance(text, str):
            yield from (Fault(one.name, f"has {what}") for what in personal(text, names))
        if one.kind is Kind.URL and isinstance(text, str):
            yield from (Fault(one.name, f"has {what}") for what in personal_in_url(text))
