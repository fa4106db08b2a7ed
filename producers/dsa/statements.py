"""Makes statements of reasons from decisions, and writes them in the form that the database takes."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date
from itertools import islice
from pathlib import Path
from typing import Any

from producers.dsa.decisions import Decision
from producers.dsa.fields import FIELDS, Record, faults
from producers.dsa.templates import Templates
from worker.errors import UsageError

BATCH = 100
"""How many statements one request may hold: the limit of the database's API for several statements."""


@dataclass
class Made:
    """What was made: how many statements, and the reason codes of their decisions.

    `without_upload` of them have the day on which Fakesweep found the picture, because nobody gave the day of the
    upload. `not_detected` of them are about pictures that the detector called real.
    """

    statements: int = 0
    without_upload: int = 0
    not_detected: int = 0
    reasons: set[str | None] = field(default_factory=set)

    def lines(self, templates: Templates) -> Iterator[str]:
        """Yields what a person must know about the file."""
        yield f"{self.statements} statements of reasons"
        if self.not_detected:
            yield f"{self.not_detected} of them are about pictures that the detector called real"
        if self.without_upload:
            yield (
                f"{self.without_upload} of them have the day on which Fakesweep found the picture as content_date: "
                "give the days of upload with --uploads"
            )
        for code in sorted(set(templates.by_reason) - self.reasons):
            yield f"[reason.{code}] fits no decision of this time: check the spelling of the code"


def statements(
    decisions: Iterable[Decision], templates: Templates, uploads: Mapping[str, str], made: Made
) -> Iterator[Record]:
    """Yields the statement of each decision. Counts them in `made`. `uploads`: days by uri or SHA-256.

    Raises UsageError, with the puid, for a statement that breaks a rule of the database, and for a picture that the
    detector called real if the templates say nothing about such pictures.
    """
    for decision in decisions:
        uploaded = uploads.get(decision.uri) or uploads.get(decision.sha256)
        made.statements += 1
        made.without_upload += uploaded is None
        made.not_detected += not decision.detected
        made.reasons.add(decision.reason_code)
        if not decision.detected and templates.not_detected is None:
            raise UsageError(
                f"statement {decision.puid}: the detector called the picture real: add a table [not_detected] with "
                "decision_facts that hold for such pictures (docs/dsa.md)"
            )
        record = templates.record(decision.reason_code, detected=decision.detected) | {
            "automated_detection": "Yes" if decision.detected else "No",
            "content_date": uploaded or f"{decision.first_at.astimezone(UTC):%Y-%m-%d}",
            "application_date": f"{decision.decided_at.astimezone(UTC):%Y-%m-%d}",
            "puid": decision.puid,
        }
        for fault in faults(record):
            raise UsageError(f"statement {decision.puid}: {fault}")
        yield record


def requests(records: Iterable[Record]) -> Iterator[str]:
    """Yields the statements as JSON Lines: each line is the body of one request, with at most BATCH statements."""
    source = iter(records)
    while batch := list(islice(source, BATCH)):
        yield json.dumps({"statements": batch}, ensure_ascii=False) + "\n"


def csv_lines(records: Iterable[Record]) -> Iterator[str]:
    """Yields the statements as CSV (RFC 4180) with a line of names first. A list is a JSON list, as in the files that
    the database publishes.
    """
    names = [one.name for one in FIELDS]
    yield _csv(names)
    for record in records:
        yield _csv([_cell(record.get(name)) for name in names])


def _csv(cells: Iterable[object]) -> str:
    target = io.StringIO()
    csv.writer(target, lineterminator="\r\n").writerow(cells)
    return target.getvalue()


def _cell(value: Any) -> object:
    return json.dumps(value) if isinstance(value, list) else value


def read_uploads(path: Path) -> dict[str, str]:
    """Reads the days of uploads: a CSV file with the columns `picture` (a uri or a SHA-256) and `date`.

    Raises UsageError, with the line, for a file that cannot be read or a date that is none.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"picture", "date"} <= set(rows.fieldnames or ()):
                raise UsageError(f"{path}: the first line must name the columns picture and date")
            return {row["picture"]: _day(row["date"], f"{path}, line {rows.line_num}") for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def _day(given: str | None, where: str) -> str:
    try:
        return f"{date.fromisoformat(given or ''):%Y-%m-%d}"
    except ValueError:
        raise UsageError(f"{where}: {given!r} is no day: write it as 2026-11-27") from None
