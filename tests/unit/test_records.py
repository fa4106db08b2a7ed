import json
import os
from pathlib import Path
from typing import Any

import pytest

from worker.datasets.records import Cause, Fault, Record, read_dataset
from worker.errors import ConfigurationError

GOOD = {
    "image": "ff++/fake/a.png",
    "label": 0,
    "cate": "deepfake",
    "width": 640,
    "height": 480,
    "conversations": [
        {"from": "human", "value": "<image>Does the image looks real/fake?"},
        {"from": "gpt", "value": "This is a fake image. The nostrils melt."},
    ],
}


def write(folder: Path, text: str, name: str = "set.json") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_record_of_fakeclue(tmp_path: Path) -> None:
    (record,) = read_dataset(write(tmp_path, json.dumps([GOOD | {"family": "grid"}])))
    assert isinstance(record, Record)
    assert record.is_fake
    assert (record.category, record.generator, record.line) == ("deepfake", "ff++", 1)
    assert record.question == "<image>Does the image looks real/fake?"
    assert record.answer == "This is a fake image. The nostrils melt."
    assert (record.model_extra or {})["family"] == "grid"


FAULTS: list[tuple[dict[str, Any] | str, Cause]] = [
    ({"label": 1}, Cause.NO_IMAGE_NAMED),
    ({"image": "", "label": 1}, Cause.NO_IMAGE_NAMED),
    ({"image": "b.png", "label": 2}, Cause.UNKNOWN_LABEL),
    ({"image": "b.png", "label": "fake"}, Cause.UNKNOWN_LABEL),
    ({"image": "b.png", "label": True}, Cause.UNKNOWN_LABEL),
    ({"image": "b.png"}, Cause.UNKNOWN_LABEL),
    ({"image": "b.png", "label": 1, "conversations": "text"}, Cause.NOT_A_RECORD),
    (GOOD | {"label": 1}, Cause.DUPLICATE),
    (GOOD | {"image": "b.png", "conversations": [{"from": "gpt", "value": "\ud800"}]}, Cause.NOT_A_RECORD),
    ("a string", Cause.NOT_A_RECORD),
]


@pytest.mark.parametrize(("bad", "cause"), FAULTS)
@pytest.mark.parametrize("form", ["array", "lines"])
def test_each_fault_is_named_with_its_line_and_the_rest_is_read(
    tmp_path: Path, bad: Any, cause: Cause, form: str
) -> None:
    values = [GOOD, bad, GOOD | {"image": "c.png"}]
    if form == "array":
        path = write(tmp_path, "[\n" + ",\n".join(map(json.dumps, values)) + "\n]")
    else:
        path = write(tmp_path, "\n".join(map(json.dumps, values)), "set.jsonl")
    first, fault, last = read_dataset(path)
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert last.image == "c.png"
    assert isinstance(fault, Fault)
    assert (fault.cause, fault.line) == (cause, 3 if form == "array" else 2)


def test_duplicates_on_one_line(tmp_path: Path) -> None:
    first, second = read_dataset(write(tmp_path, json.dumps([GOOD, GOOD])))
    assert isinstance(first, Record)
    assert isinstance(second, Fault)
    assert second.cause is Cause.DUPLICATE


def test_an_array_goes_on_after_a_broken_record(tmp_path: Path) -> None:
    broken = json.dumps([GOOD, GOOD | {"image": "b.png"}, GOOD | {"image": "c.png"}], indent=1).replace(
        '"image": "b.png",', '"image": "b.png"', 1
    )
    found = list(read_dataset(write(tmp_path, broken)))
    assert [one.image for one in found if isinstance(one, Record)] == ["ff++/fake/a.png", "c.png"]
    (fault,) = (one for one in found if isinstance(one, Fault))
    assert fault.cause is Cause.BROKEN_JSON
    assert broken.split("\n")[fault.line - 1] == " {"


def test_a_file_that_ends_too_early(tmp_path: Path) -> None:
    whole = json.dumps([GOOD, GOOD | {"image": "b.png"}])
    for end in range(1, len(whole)):
        found = list(read_dataset(write(tmp_path, whole[:end])))
        assert isinstance(found[-1], Fault), end
        assert len([one for one in found if isinstance(one, Record)]) == (end >= len(json.dumps([GOOD])) - 1) + (
            end >= len(whole) - 1
        )


def test_broken_lines(tmp_path: Path) -> None:
    first, broken, last = read_dataset(
        write(tmp_path, f"{json.dumps(GOOD)}\n\n{{half\n{json.dumps(GOOD | {'image': 'b'})}\n", "set.jsonl")
    )
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert isinstance(broken, Fault)
    assert (broken.line, broken.cause) == (3, Cause.BROKEN_JSON)


def test_a_folder_with_real_and_fake(tmp_path: Path) -> None:
    for name in ("real/a.png", "fake/sd/b.JPG", "fake/notes.txt", "other/c.png", "train/ai/d.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [one for one in read_dataset(tmp_path) if isinstance(one, Record)]
    assert [(one.image, one.label, one.generator) for one in found] == [
        ("fake/sd/b.JPG", 0, "sd"),
        ("real/a.png", 1, None),
        ("train/ai/d.webp", 0, None),
    ]


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for name in (b"a.png", b"\xff.png"):
        (tmp_path / "real" / os.fsdecode(name)).touch()
    good, bad = read_dataset(tmp_path)
    assert isinstance(good, Record)
    assert isinstance(bad, Fault)
    assert (bad.line, bad.cause) == (2, Cause.NOT_A_RECORD)


@pytest.mark.parametrize("start", ["", "["])
def test_nested_beyond_reason(tmp_path: Path, start: str) -> None:
    (fault, *_) = read_dataset(write(tmp_path, f'{start}{{"a": {"[" * 100_000}'))
    assert isinstance(fault, Fault)
    assert fault.cause is Cause.BROKEN_JSON


@pytest.mark.parametrize(
    ("image", "generator"),
    [
        ("a.png", None),
        ("images/a.png", None),
        ("genimage/sdv4/fake/a.png", "genimage"),
        ("test/fake/midjourney/a.png", "midjourney"),
        ("s3://bucket/fake/flux/a.png", "flux"),
        ("s3://bucket/a.png", None),
    ],
)
def test_what_the_path_tells(image: str, generator: str | None) -> None:
    assert Record(image=image, label=0, line=1).generator == generator


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        list(read_dataset(tmp_path / "none.json"))
    with pytest.raises(ConfigurationError, match="no images below"):
        list(read_dataset(tmp_path))
