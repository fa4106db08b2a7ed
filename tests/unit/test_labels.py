"""Labels in files of users, line by line."""

import json
from pathlib import Path

import pytest

from producers.export.decisions import LeftOut
from producers.export.labels import Label, read_labels
from worker.detector.description import AnswerForm
from worker.errors import ConfigurationError

SHA256 = "ab" * 32


def read(path: Path) -> tuple[list[Label], list[LeftOut]]:
    faults: list[LeftOut] = []
    return list(read_labels(path, AnswerForm(), faults.append)), faults


def write(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def test_a_csv_file(tmp_path: Path) -> None:
    text = f"""\ufeffURI,sha256, Label ,explanation,category,ours
s3://b/a.png,,fake,"The nose,
melts.",human,7
,{SHA256}, REAL ,,,

"s3://b/c,1.png",,1,,,
"""
    labels, faults = read(write(tmp_path, "labels.csv", text))
    assert faults == []
    first, second, third = labels
    assert (first.uri, first.label, first.category, first.line) == ("s3://b/a.png", 0, "human", 3)
    assert first.explanation == "The nose,\nmelts."
    assert (second.uri, second.sha256, second.label, second.explanation) == (None, SHA256, 1, None)
    assert (third.uri, third.label, third.line) == ("s3://b/c,1.png", 1, 6)


def test_json_lines(tmp_path: Path) -> None:
    lines = [{"uri": "s3://b/a", "label": 0}, {"sha256": SHA256, "label": "1", "category": "doc"}]
    labels, faults = read(write(tmp_path, "labels.jsonl", "\n\n".join(map(json.dumps, lines))))
    assert faults == []
    assert [(one.uri, one.sha256, one.label, one.category, one.line) for one in labels] == [
        ("s3://b/a", None, 0, None, 1),
        (None, SHA256, 1, "doc", 3),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"uri": "s3://b/a", "label": ', "not JSON: "),
        ("[" * 100_000, "not JSON: "),
        ('["s3://b/a", "fake"]', "a list, where an object should be"),
        ('"uri"', "a str, where an object should be"),
        ('{"uri": "s3://b/a"}', "label is missing"),
        ('{"uri": "s3://b/a", "label": "uncertain"}', "label must be real or 1, fake or 0"),
        ('{"uri": "s3://b/a", "label": true}', "label must be real or 1, fake or 0"),
        ('{"uri": "s3://b/a", "label": 2}', "label must be real or 1, fake or 0"),
        ('{"uri": "s3://b/a", "label": 0.0}', "label must be real or 1, fake or 0"),
        ('{"label": "real"}', "names neither uri nor sha256"),
        ('{"uri": "", "sha256": null, "label": "real"}', "names neither uri nor sha256"),
        ('{"sha256": "ABC", "label": "real"}', "sha256 has the wrong form"),
        ('{"uri": "s3://b/\\u0000", "label": "real"}', "uri must be Unicode text without NUL characters"),
        ('{"uri": "s3://b/a", "label": 0, "explanation": "\\ud800"}', "explanation "),
        ('{"uri": "s3://b/a", "label": 0, "explanation": "This is a real image. Look."}', "the explanation begins"),
    ],
)
def test_a_bad_line_is_reported_and_the_rest_is_read(tmp_path: Path, line: str, said: str) -> None:
    good = '{"uri": "s3://b/good", "label": "fake"}'
    labels, faults = read(write(tmp_path, "labels.jsonl", f"{good}\n{line}\n{good}\n"))
    assert [one.line for one in labels] == [1, 3]
    (fault,) = faults
    assert (fault.cause, fault.line) == ("bad_line", 2)
    assert fault.detail.startswith(said), fault.detail


def test_a_row_with_too_many_cells(tmp_path: Path) -> None:
    """A comma in a uri without quotation marks would move all cells after it."""
    text = "uri,label\ns3://b/a,b,fake\ns3://b/c\ns3://b/d,real\n"
    labels, faults = read(write(tmp_path, "labels.csv", text))
    assert [one.uri for one in labels] == ["s3://b/d"]
    assert [str(fault) for fault in faults] == [
        "line 2: bad_line: 3 columns, but the header has 2",
        "line 3: bad_line: 1 columns, but the header has 2",
    ]


@pytest.mark.parametrize(
    ("label", "given", "kept"),
    [
        ("fake", "This is a fake image. The nose melts.", "The nose melts."),
        ("real", "This is a real image. ", None),
        ("real", "  Its grain is a sensor's. ", "Its grain is a sensor's."),
    ],
)
def test_the_opening_is_removed_from_an_explanation(tmp_path: Path, label: str, given: str, kept: str | None) -> None:
    line = json.dumps({"uri": "s3://b/a", "label": label, "explanation": given})
    (found,), _ = read(write(tmp_path, "labels.jsonl", line))
    assert found.explanation == kept


def test_a_file_without_labels(tmp_path: Path) -> None:
    for path in (
        tmp_path / "none.csv",
        tmp_path,
        write(tmp_path, "no_header.csv", "s3://b/a,fake\n"),
        write(tmp_path, "no_name.csv", "label,explanation\nfake,x\n"),
        write(tmp_path, "empty.csv", ""),
    ):
        with pytest.raises(ConfigurationError, match="--labels: "):
            read(path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"uri": "s3://b/\xe4", "label": 1}')
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read(tmp_path / "latin.jsonl")
