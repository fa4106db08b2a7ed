"""Reads your own labels: a CSV or JSON Lines file that says what images are, by uri or SHA-256."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy import Row, select, text
from sqlmodel import Session, col

from producers.export.decisions import FAKE, REAL, Cause, Decided, LeftOut, Report, explanation_for, still_at
from worker.detector.description import AnswerForm
from worker.errors import ConfigurationError
from worker.messages import Text
from worker.tables import StoredObject
from worker.wording import worded

BATCH = 1000
"""How many images are looked up at once."""

_VERDICTS = text("""
SELECT v.sha256, v.uri, v.answer, v.explanation, v.contradicts, v.cut_off, v.width, v.height, v.detector_id,
       coalesce(o.sha256 = v.sha256, false) AS still_there
FROM verdicts v LEFT JOIN objects o ON o.uri = v.uri
WHERE v.sha256 = ANY(:contents)
ORDER BY v.sha256, v.id DESC
""")


def _number(label: object) -> object:
    known = {"fake": FAKE, "0": FAKE, "real": REAL, "1": REAL}
    named = label if isinstance(label, str | int) and not isinstance(label, bool) else ""
    if (number := known.get(str(named).strip().lower())) is None:
        raise ValueError("must be real or 1, fake or 0")
    return number


class Label(BaseModel):
    """What a person says about a content: that with the SHA-256 or, without one, the last known one at the uri."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    line: int
    label: Annotated[Literal[0, 1], BeforeValidator(_number)]
    uri: Text | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    explanation: Text | None = None
    category: Text | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not (self.uri or self.sha256):
            raise ValueError("names neither uri nor sha256")
        return self


def read_labels(path: Path, form: AnswerForm, report: Report) -> Iterator[Label]:
    """Yields the labels of a .csv file, or of JSON Lines under any other name. Reports bad lines with their number.

    An explanation may begin with the detector's opening for its label, which is removed. With the other opening, the
    line is bad. Raises ConfigurationError if the file cannot be read or lacks the columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            for row in _csv_rows(lines) if path.suffix.lower() == ".csv" else _json_rows(lines):
                read = row if isinstance(row, LeftOut) else _read(*row, form)
                if isinstance(read, LeftOut):
                    report(read)
                else:
                    yield read
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"--labels: {path} cannot be read: {error}; give CSV or JSON Lines in UTF-8") from None


def _csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, Any] | LeftOut]:
    """Yields each row with its line number."""
    reader = csv.reader(lines)
    columns = [name.strip().lower() for name in next(reader, [])]
    if "label" not in columns or not {"uri", "sha256"} & set(columns):
        raise ConfigurationError("--labels: the first line must name the columns: label, and uri or sha256")
    for row in reader:
        if row and len(row) != len(columns):
            yield _bad(reader.line_num, f"{len(row)} columns, but the header has {len(columns)}")
        elif row:
            yield reader.line_num, {name: cell or None for name, cell in zip(columns, row, strict=True)}


def _json_rows(lines: Iterable[str]) -> Iterator[tuple[int, Any] | LeftOut]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield _bad(number, f"not JSON: {error}")


def _bad(line: int, detail: str) -> LeftOut:
    return LeftOut(Cause.BAD_LINE, detail, line)


def _read(line: int, row: Any, form: AnswerForm) -> Label | LeftOut:
    if not isinstance(row, dict):
        return _bad(line, f"a {type(row).__name__}, where an object should be")
    try:
        label = Label.model_validate({**row, "line": line})
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        return _bad(line, f"{field} {worded(fault)}".strip())
    own, other = (form.real, form.fake) if label.label == REAL else (form.fake, form.real)
    explanation = (label.explanation or "").strip()
    if explanation.startswith(other):
        return _bad(line, f"the explanation begins with {other!r}, but the label says the opposite")
    return label.model_copy(update={"explanation": explanation.removeprefix(own).strip() or None})


def by_content(session: Session, labels: Iterable[Label], report: Report) -> dict[str, Label]:
    """Returns the labels by SHA-256. A label keeps its uri if the content is still there. Reports repeated contents.

    If several lines say the same, the first one counts. If lines contradict each other, none of them counts.
    """
    found: dict[str, Label] = {}
    contradicted: set[str] = set()
    for label in _with_contents(session, iter(labels), report):
        sha256 = str(label.sha256)
        first = found.setdefault(sha256, label)
        if first.label != label.label:
            contradicted.add(sha256)
            detail = f"line {first.line} says the opposite about the same content; neither counts"
            report(LeftOut(Cause.CONTRADICTING_LABELS, detail, label.line, label.uri, sha256))
        elif first is not label:
            detail = f"the same content as in line {first.line}"
            report(LeftOut(Cause.DUPLICATE, detail, label.line, label.uri, sha256))
    return {sha256: label for sha256, label in found.items() if sha256 not in contradicted}


def _with_contents(session: Session, labels: Iterator[Label], report: Report) -> Iterator[Label]:
    while batch := list(islice(labels, BATCH)):
        uris = [label.uri for label in batch if label.uri]
        query = select(col(StoredObject.uri), col(StoredObject.sha256)).where(col(StoredObject.uri).in_(uris))
        contents = dict(session.execute(query).all())
        for label in batch:
            there = contents.get(label.uri or "")
            if label.sha256 is not None:
                yield label if there == label.sha256 else label.model_copy(update={"uri": None})
            elif there is not None:
                yield label.model_copy(update={"sha256": there})
            else:
                report(
                    LeftOut(Cause.UNKNOWN_IMAGE, "nothing was ever fetched there: scan it first", label.line, label.uri)
                )


def labelled(session: Session, labels: Mapping[str, Label], report: Report) -> Iterator[Decided]:
    """Yields every labelled content, by SHA-256. Reports contents without a verdict, because their place is unknown."""
    contents = iter(sorted(labels))
    while batch := list(islice(contents, BATCH)):
        rows = session.execute(_VERDICTS, {"contents": batch})
        verdicts = {sha256: list(group) for sha256, group in groupby(rows, key=lambda row: row.sha256)}
        for sha256 in batch:
            label = labels[sha256]
            if sha256 in verdicts:
                yield _decided(label, sha256, verdicts[sha256])
            else:
                detail = "no detector has judged this content: scan it first"
                report(LeftOut(Cause.UNKNOWN_IMAGE, detail, label.line, label.uri, sha256))


def _decided(label: Label, sha256: str, verdicts: Sequence[Row[Any]]) -> Decided:
    newest = verdicts[0]
    return Decided(
        sha256,
        label.label,
        "label",
        uri=label.uri or still_at(verdicts),
        width=newest.width,
        height=newest.height,
        explanation=label.explanation or explanation_for(label.label, verdicts),
        category=label.category,
        detector_id=newest.detector_id,
    )
