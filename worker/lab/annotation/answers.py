"""Reads the points in the text of an answer, and makes a record's explanation from the agreed points."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from worker.detector.description import AnswerForm
from worker.detector.verdicts import Reader
from worker.errors import MalformedAnswerError
from worker.lab.datasets.answers import read, wanted
from worker.lab.datasets.records import Record
from worker.texts import storable
from worker.wording import worded

Observation = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Group(StrEnum):
    """How an explanation is ordered: the paper's three groups, and OTHER for the rest, such as a document's words."""

    LIGHTING = "lighting"
    GEOMETRY = "geometry"
    TEXTURE = "texture"
    OTHER = "other"


class Point(BaseModel):
    """What one annotator saw at one checkpoint."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    checkpoint: str
    observation: Observation


class AgreedPoint(BaseModel):
    """An observation that the aggregator made from the points of these annotators, numbered from 1."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    group: Group
    observation: Observation
    annotators: frozenset[int]


Element = TypeVar("Element", Point, AgreedPoint)


def read_list(text: str, element: type[Element]) -> list[Element]:
    """Returns the JSON list in an answer; code fences and words around it are ignored. Raises MalformedAnswerError."""
    start, end = text.find("["), text.rfind("]")
    if start == -1 or end < start:
        raise MalformedAnswerError(f"no JSON list in {text[:60]!r}")
    try:
        return TypeAdapter(list[element]).validate_json(_without_unstorable(text[start : end + 1]))  # type: ignore[valid-type]
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "list"
        raise MalformedAnswerError(f"{where}: {worded(fault)}") from None


def _without_unstorable(text: str) -> str:
    """Returns the same JSON without text that cannot be stored (worker.texts). Other text stays as it is."""
    if "\\u" not in text:
        return text
    try:
        return json.dumps(_storable_values(json.loads(text)))
    except (ValueError, RecursionError):
        return text  # the caller finds out what is wrong with it


def _storable_values(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case list():
            return [_storable_values(one) for one in value]
        case dict():
            return {storable(name): _storable_values(one) for name, one in value.items()}
    return value


def agreed(points: Sequence[AgreedPoint], lists: Sequence[Sequence[Point]]) -> list[AgreedPoint]:
    """Returns the points that two or more annotators made, ordered by group; with one annotator, all of them.

    The aggregator is asked for exactly these points, but it cannot be trusted to count.
    """
    spoke = {number for number, made in enumerate(lists, start=1) if made}
    needed = min(2, len(lists))
    kept = [point for point in points if len(point.annotators & spoke) >= needed]
    return sorted(kept, key=lambda point: list(Group).index(point.group))


def explanation(points: Sequence[AgreedPoint]) -> str:
    """Returns the observations as one list with semicolons."""
    said = "; ".join(" ".join(point.observation.replace(";", ",").split()).rstrip(" .,") for point in points)
    return f"{said[:1].upper()}{said[1:]}."


def full_answer(record: Record, explained: str, form: AnswerForm) -> str:
    """Returns the answer that the detector should give: its own opening for the label, then the explanation."""
    return f"{form.fake if record.is_fake else form.real} {explained}"


def contradicts_label(record: Record, answer: str, reader: Reader) -> bool:
    """Whether the detector's reader reads another verdict in this answer, or reasons for the opposite verdict."""
    judgement = read(answer, reader)
    return judgement.contradicts or judgement.answer is not wanted(record)
