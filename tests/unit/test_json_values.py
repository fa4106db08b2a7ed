"""JSON arrays, JSON Lines, and mixtures that people make: every value is read, or reported with its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from worker.errors import ConfigurationError
from worker.lab.datasets.faults import Faults, read_records
from worker.lab.datasets.json_values import values_of
from worker.lab.datasets.reading import read_dataset
from worker.lab.datasets.records import Cause, Fault, Record


def record(name: str, **fields: Any) -> dict[str, Any]:
    return {"image": f"{name}.png", "label": 1} | fields


A, B, C = (json.dumps(record(name)) for name in "abc")


def named(text: str) -> list[tuple[int, str]]:
    """Returns (line, name of the image or cause of the fault) for each value."""
    return [
        (line, value.cause if isinstance(value, Fault) else value["image"][0] if isinstance(value, dict) else value)
        for line, value in values_of(text)
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"[{A}]\n[{B}]\n",
        f"{A}\n[{B}]",
        f"[{A}]\n{B}",
        f"[{A}]\n\ufeff[{B}]",
        f"\ufeff{A}\n\ufeff{B}",
        f"[{A}\n,{B}] \t\n",
    ],
)
def test_files_after_each_other(text: str) -> None:
    assert named(text) == [(1, "a"), (2, "b")]


def test_arrays_after_each_other_over_several_lines() -> None:
    arrays = [json.dumps([record(name), record(name)], indent=1) for name in "ab"]
    assert named("\n".join(arrays)) == [(2, "a"), (6, "a"), (12, "b"), (16, "b")]


@pytest.mark.parametrize("rest", ["garbage", "]", ", x", "{half", '{"image": "b.png", "label": 1'])
def test_garbage_after_an_array_is_a_fault(rest: str) -> None:
    assert named(f"[{A}]\n {rest}\n{C}") == [(1, "a"), (2, "broken_json"), (3, "c")]
    assert named(f"[{A}] {rest}") == [(1, "a"), (1, "broken_json")]


def test_a_broken_line_names_its_column() -> None:
    for before in ("", "  "):
        broken = f'{before}{{"image": "b.png" "label": 1}}'
        _, (_, fault) = values_of(f"{A}\n{broken}")
        column = broken.index('"label') + 1
        assert str(fault) == f"line 2: broken_json: Expecting ',' delimiter: column {column}"
    _, (_, fault) = values_of(f"[{A}] ?")
    assert fault.detail == f"Expecting value: column {len(A) + 4}"


@pytest.mark.parametrize("text", [f"[\n{A},\n%s,\n{C}]", f"\n{A}\n%s\n{C}"])
@pytest.mark.parametrize("field", ["image", "cate", "family"])
def test_a_byte_that_is_not_utf_8_is_one_fault(tmp_path: Path, text: str, field: str) -> None:
    bad = json.dumps(record("é", **{field: "café"}), ensure_ascii=False)
    (tmp_path / "set.json").write_bytes((text % bad).encode("latin-1"))
    first, fault, last = read_dataset(tmp_path / "set.json")
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert isinstance(fault, Fault)
    assert (fault.line, fault.cause) == (3, Cause.BROKEN_JSON)
    assert "0xe9 is not UTF-8" in fault.detail


@pytest.mark.parametrize("value", [record("a"), {"data": [record("a"), record("b")]}, record("a", family="é")])
def test_an_object_over_several_lines_is_one_fault(tmp_path: Path, value: dict[str, Any]) -> None:
    (tmp_path / "set.json").write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"line 1: broken_json: .* DATASET must be a JSON array or JSON Lines"):
        read_records(tmp_path / "set.json", Faults())
    assert len(list(read_dataset(tmp_path / "set.json"))) == 1


def test_objects_over_several_lines_between_other_values() -> None:
    over = json.dumps(record("b"), indent=1)
    assert named(f"{A}\n{over}\n{over}\n{C}") == [(1, "a"), (2, "broken_json"), (6, "broken_json"), (10, "c")]


def test_a_line_that_ends_with_a_comma_is_one_fault() -> None:
    assert named(f"{A},\n{B}\n{C}") == [(1, "broken_json"), (2, "b"), (3, "c")]


def test_a_number_with_too_many_digits() -> None:
    assert named(f"{'9' * 5000}\n{C}") == [(1, "broken_json"), (2, "c")]
