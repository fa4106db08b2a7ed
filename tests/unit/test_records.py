import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from worker.errors import ConfigurationError
from worker.lab.datasets.images import image_ref
from worker.lab.datasets.reading import read_dataset
from worker.lab.datasets.records import Cause, Fault, Record

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
def test_each_fault_is_reported_with_its_line_and_the_rest_is_read(
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


def test_an_array_continues_after_a_broken_record(tmp_path: Path) -> None:
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


def test_a_duplicate_says_whether_the_labels_differ(tmp_path: Path) -> None:
    records = [GOOD, GOOD, GOOD | {"label": 1}]
    _, same, other = read_dataset(write(tmp_path, "\n".join(map(json.dumps, records))))
    assert str(same) == "line 2: duplicate: ff++/fake/a.png: already in line 1"
    assert str(other) == "line 3: duplicate: ff++/fake/a.png: already in line 1, with the other label"


def test_an_image_with_two_spellings(tmp_path: Path) -> None:
    names = ["images/a.png", "./images/a.png", "images//b/../a.png", "s3://b/a.png", "s3://b/./a.png", "/a.png"]
    found = list(read_dataset(write(tmp_path, json.dumps([{"image": name, "label": 1} for name in names]))))
    assert [one.image for one in found if isinstance(one, Record)] == [names[0], *names[3:]]
    assert [one.cause for one in found if isinstance(one, Fault)] == [Cause.DUPLICATE] * 2


def test_a_name_outside_the_folder_of_images(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "a/../../b.png", "..", "a/../b.png", "..a/b.png", "/etc/c.png", "s3://b/../a.png"]
    found = list(read_dataset(write(tmp_path, json.dumps([{"image": name, "label": 1} for name in names]))))
    assert [one.cause for one in found[:3] if isinstance(one, Fault)] == [Cause.NO_IMAGE_NAMED] * 3
    assert [one.image for one in found[3:] if isinstance(one, Record)] == names[3:]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_with_real_and_fake(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png", "fake/sd/b.JPG", "fake/notes.txt", "other/c.png", "train/ai/d.webp")
    found = [one for one in read_dataset(tmp_path) if isinstance(one, Record)]
    assert [(one.image, one.label, one.generator) for one in found] == [
        ("fake/sd/b.JPG", 0, "sd"),
        ("real/a.png", 1, None),
        ("train/ai/d.webp", 0, None),
    ]


def test_skipped_files_in_a_folder_of_a_class_are_reported(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png", "labels.txt", "real/.DS_Store", "real/b.heic", "real/c.jfif", "fake/labels.txt")
    found = list(read_dataset(tmp_path))
    assert [one.line for one in found] == [1, 2, 3, 4, 5]
    faults = [one for one in found if isinstance(one, Fault)]
    assert {one.cause for one in faults} == {Cause.UNSUPPORTED_SUFFIX}
    assert [one.image for one in faults] == ["fake/labels.txt", "real/.DS_Store", "real/b.heic", "real/c.jfif"]
    assert ".jpg" in faults[0].detail


def test_links_to_folders_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.png", "set/fake/b.png", "x/c.png", "y/d.png")
    for link, target in {
        "set/real": "elsewhere",
        "set/fake/again": "set",
        "set/fake/x": "x",
        "x/y": "y",
        "y/x": "x",
    }.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    found = list(read_dataset(tmp_path / "set"))
    assert [one.image for one in found] == ["fake/b.png", "fake/x/c.png", "fake/x/y/d.png", "real/a.png"]
    assert [one.label for one in found if isinstance(one, Record)] == [0, 0, 0, 1]


def test_a_link_to_a_class_that_leads_nowhere(tmp_path: Path) -> None:
    touch(tmp_path, "fake/a.png")
    (tmp_path / "real").symlink_to(tmp_path / "gone")
    _, fault = read_dataset(tmp_path)
    assert isinstance(fault, Fault)
    assert fault.image == "real"


def test_a_folder_that_cannot_be_listed() -> None:
    with TemporaryDirectory() as name:  # not in pytest's own folder, which only its owner may enter
        folder = Path(name)
        folder.chmod(0o755)
        touch(folder, "fake/a.png", "real/a.png")
        (folder / "real").chmod(0)
        me = os.geteuid()
        try:
            os.seteuid(me or 65534)  # root may list every folder
            good, fault = read_dataset(folder)
        finally:
            os.seteuid(me)
            (folder / "real").chmod(0o755)
    assert isinstance(good, Record)
    assert isinstance(fault, Fault)
    assert (fault.line, fault.image, fault.cause) == (2, "real", Cause.UNREADABLE_IMAGE)
    assert fault.detail == "a folder that cannot be read: Permission denied"


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for name in (b"a.png", b"\xff.png"):
        (tmp_path / "real" / os.fsdecode(name)).touch()
    good, other = read_dataset(tmp_path)
    assert isinstance(good, Record)
    assert isinstance(other, Record)
    assert other.image == f"{tmp_path.as_uri()}/real/%FF.png"
    assert image_ref(other.image, str(tmp_path)).uri == other.image
    other.model_dump_json()
    (fault,) = read_dataset(write(tmp_path, json.dumps({"image": "real/\udcff.png", "label": 1})))
    assert "the name is not Unicode text: give file:///" in str(fault)


@pytest.mark.parametrize("start", ["", "["])
def test_records_with_too_many_levels(tmp_path: Path, start: str) -> None:
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
        ("../images/a.png", None),
        ("./a/../flux/b.png", "a"),
        ("fake/../flux/b.png", "flux"),
    ],
)
def test_category_and_generator_from_the_path(image: str, generator: str | None) -> None:
    assert Record(image=image, label=0, line=1).generator == generator


def test_a_path_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        list(read_dataset(tmp_path / "none.json"))
    with pytest.raises(ConfigurationError, match="no images below"):
        list(read_dataset(tmp_path))
