"""Errors about values are in plain English, and never in pydantic's words."""

import re
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

import pytest
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from pydantic_core.core_schema import ErrorType

from worker.messages import Explain
from worker.wording import first_fault, worded

PROGRAMMERS = re.compile(r"[Ii]nput|[Vv]alue error|permitted|parse|valid (integer|number|string|boolean)|instance")


def fault_of(kind: Any, value: object) -> str:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(kind).validate_python(value)
    return first_fault(raised.value)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, "many", "must be a whole number"),
        (int, 1.5, "must be a whole number"),
        (int, None, "must be a whole number"),
        (float, "much", "must be a number"),
        (float, [], "must be a number"),
        (Annotated[float, Field(allow_inf_nan=False)], "inf", "must be a finite number"),
        (bool, "maybe", "must be true or false"),
        (bool, [], "must be true or false"),
        (Annotated[int, Field(ge=1)], 0, "must be 1 or more"),
        (Annotated[float, Field(ge=1)], 0, "must be 1 or more"),
        (Annotated[float, Field(gt=0.5)], 0, "must be more than 0.5"),
        (Annotated[int, Field(le=9)], 10, "must be 9 or less"),
        (Annotated[int, Field(lt=9)], 9, "must be less than 9"),
        (Annotated[int, Field(multiple_of=8)], 9, "must be a multiple of 8"),
        (Literal["vllm", "transformers"], "vlm", "must be 'vllm' or 'transformers'"),
        (Explain, "some", "must be 'flagged', 'all' or 'none'"),
        (str, 2, "must be text"),
        (Annotated[str, Field(min_length=2)], "a", "must have 2 or more characters"),
        (Annotated[str, Field(max_length=2)], "abc", "must have 2 or fewer characters"),
        (Annotated[str, Field(pattern="^[a-z]+$")], "A", "has the wrong form: it must match ^[a-z]+$"),
        (list[int], 1, "must be a list"),
        (tuple[int, ...], 1, "must be a list"),
        (Annotated[list[int], Field(min_length=1)], [], "must have 1 or more entries, and has 0"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "must have 1 or fewer entries"),
        (dict[str, int], 1, "must be a table with names and values"),
        (UUID, "x", "must be an id, such as 123e4567-e89b-12d3-a456-426614174000"),
        (datetime, "x", "must be a time, such as 2026-11-27T02:00:00+00:00"),
        (date, "x", "must be a date, such as 2026-11-27"),
        (AnyHttpUrl, "x", "must be an address, such as https://example.org"),
        (AnyHttpUrl, "ftp://x", "must be an address that begins with 'http' or 'https'"),
        (Path, 1, "must be a path"),
    ],
)
def test_an_error_of_each_type(kind: Any, value: object, said: str) -> None:
    assert fault_of(kind, value) == said


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rate: float

    @field_validator("rate")
    @classmethod
    def _checked(cls, rate: float) -> float:
        if rate > 1:
            raise ValueError("give a share, such as 0.5")
        return rate


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "is missing"),
        ({"rate": 1, "rat": 1}, "is not a known name: check its spelling"),
        ({"rate": 2}, "give a share, such as 0.5"),
        (7, "must be a table with names and values"),
    ],
)
def test_an_error_in_a_table(value: object, said: str) -> None:
    assert fault_of(Table, value) == said


def test_an_error_for_text_that_is_not_json() -> None:
    with pytest.raises(ValidationError) as raised:
        Table.model_validate_json("{")
    assert first_fault(raised.value).startswith("is not JSON: ")


@pytest.mark.parametrize("kind", get_args(ErrorType))
def test_every_type_of_error_has_words(kind: str) -> None:
    """Also errors that our models cannot cause. Values that pydantic would show are left out here."""
    said = worded({"type": kind, "msg": "Input should be something", "ctx": {}})
    assert said
    assert not PROGRAMMERS.search(said.replace("is not valid", ""))
