"""Reads the file in which a platform says what it does with pictures that its people call fake."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
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
    "content_date": "2000-01-01",
    "application_date": "2020-01-01",
    "puid": "fakesweep-1",
}
"""Fields that the export fills in, with values for the check of a template. The days are the first that the rules
allow, because an end date may be right for old decisions. The export checks each statement again.
"""

_SCOPES = {"EU": EU, "EEA": EEA}


@dataclass(frozen=True)
class Templates:
    """The fields of every statement, and other values of them by the reason code of the decision.

    `not_detected` has other values for pictures that the detector called real. None: the file has no such table.
    """

    fields: Record
    by_reason: Mapping[str, Record] = field(default_factory=dict)
    not_detected: Record | None = None

    def record(self, reason: str | None, *, detected: bool = True) -> dict[str, Any]:
        """Returns the fields of a statement for a decision with this reason code. `detected`: see Decision."""
        found = _replaced({**_DEFAULTS, **self.fields}, self.by_reason.get(reason or "", {}))
        return found if detected else _replaced(found, self.not_detected or {})

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the fields of each kind of statement, with the table that they come from last."""
        for reason in ("", *self.by_reason):
            place = f"[reason.{reason}]" if reason else "[statement]"
            yield place, self.record(reason)
            if self.not_detected is not None:
                yield f"{place} with [not_detected]", self.record(reason, detected=False)

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
    reasons, not_detected = content.get("reason", {}), content.get("not_detected")
    unknown = set(content) - {"statement", "reason", "not_detected"}
    single = {"statement": content.get("statement"), "not_detected": content.get("not_detected", {})}
    if unknown or not _is_tables(reasons) or not _is_tables(single):
        raise UsageError(
            f"{path}: must hold a table [statement], tables [reason.CODE] and [not_detected], and nothing else"
        )
    templates = Templates(
        _with_scope(content["statement"]),
        {code: _with_scope(fields) for code, fields in reasons.items()},
        None if not_detected is None else _with_scope(not_detected),
    )
    _refuse(templates, _faults_of_template, f"{path}: ")
    return templates


def _is_tables(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())


def _with_scope(fields: Record) -> Record:
    scope = fields.get("territorial_scope")
    return {**fields, "territorial_scope": sorted(_SCOPES[scope])} if scope in ("EU", "EEA") else fields


def _replaced(record: Record, own: Record) -> dict[str, Any]:
    """The record with the fields of a table. Fields that belong to a value that the table replaces are left out."""
    together = {**record, **own}
    left_out = {one.name for one in FIELDS if one.with_ and one.with_[0] in own and not one.goes_with(together)}
    if own.get("source_type", record.get("source_type")) != record.get("source_type"):
        left_out.add("source_identity")
    return {name: value for name, value in together.items() if name in own or name not in left_out}


def _refuse(templates: Templates, check: Callable[[Record], Iterator[Fault]], where: str = "") -> None:
    for place, record in templates.records():
        for fault in check(record):
            raise UsageError(f"{where}{place}: {fault}")


def _faults_of_template(given: Record) -> Iterator[Fault]:
    yield from (Fault(name, "is filled in by the export: leave it out") for name in given if name in _OURS)
    yield from faults({**given, **_OURS})
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
