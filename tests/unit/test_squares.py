"""The images of a training set are decoded once. Every fault is reported, and the others keep their order."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.detector.description import Preprocessing
from worker.errors import ConfigurationError, StorageUnavailableError
from worker.images import Fit, SizeLimits
from worker.lab.datasets.records import Cause, Fault, Record
from worker.lab.training.squares import ImageSource, TrainingSet, classes_of, prepare, value_of
from worker.testing import InMemoryImageStore

EDGE = 28


def png(level: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (40, 50), (level, level, level)).save(target, "PNG")
    return target.getvalue()


def record(number: int, **fields: object) -> Record:
    return Record.model_validate({"image": f"{number}.png", "label": number % 2, "line": number + 1} | fields)


RECORDS = [record(number) for number in range(6)]


def source_of(objects: Mapping[str, bytes | Exception]) -> tuple[ImageSource, InMemoryImageStore]:
    store = InMemoryImageStore(objects)
    return ImageSource(
        store, "s3://bucket/set", Preprocessing(edge=EDGE, fit=Fit.CROP), limits=SizeLimits(max_pixels=10**6), threads=2
    ), store


def whole() -> dict[str, bytes | Exception]:
    return {f"s3://bucket/set/{number}.png": png(40 * number) for number in range(6)}


def prepared(
    folder: Path, source: ImageSource, key: str = "a", records: Sequence[Record] = RECORDS
) -> tuple[TrainingSet, list[Fault]]:
    faults: list[Fault] = []
    return prepare(records, source, folder, key, faults.append), faults


def levels(data: TrainingSet) -> list[int]:
    """Returns the grey level of each record's square."""
    squares = [data.pixels[row] for row in data.rows]
    assert all(square.shape == (EDGE, EDGE, 3) and np.ptp(square) == 0 for square in squares)
    return [int(square[0, 0, 0]) for square in squares]


def test_the_images_have_the_order_of_the_records(tmp_path: Path) -> None:
    data, faults = prepared(tmp_path, source_of(whole())[0])
    assert faults == []
    assert list(data.records) == RECORDS
    assert levels(data) == [0, 40, 80, 120, 160, 200]
    assert list(data.contents) == [hashlib.sha256(png(40 * number)).hexdigest() for number in range(6)]


@pytest.mark.parametrize("again", [False, True], ids=["decoded", "as left"])
def test_missing_and_broken_images_are_reported_and_the_rest_is_kept(tmp_path: Path, again: bool) -> None:
    objects = whole() | {"s3://bucket/set/3.png": b"no image"}
    del objects["s3://bucket/set/1.png"]
    if again:
        prepared(tmp_path, source_of(objects)[0])
    data, faults = prepared(tmp_path, source_of(objects)[0])
    assert [(fault.line, fault.image, fault.cause) for fault in faults] == [
        (2, "1.png", Cause.MISSING_IMAGE),
        (4, "3.png", Cause.UNREADABLE_IMAGE),
    ]
    assert all(isinstance(fault.cause, Cause) and fault.detail for fault in faults)
    assert [one.image for one in data.records] == ["0.png", "2.png", "4.png", "5.png"]
    assert levels(data) == [0, 80, 160, 200]


def test_an_error_in_the_fault_handler_stops_at_once(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(fault: Fault) -> None:
        raise StoppedError

    source, _ = source_of(dict(list(whole().items())[1:]))
    with pytest.raises(StoppedError):
        prepare(RECORDS, source, tmp_path, "a", stop)
    assert not (tmp_path / "prepared.json").exists()


def test_unavailable_storage_stops_the_training(tmp_path: Path) -> None:
    objects = whole() | {"s3://bucket/set/2.png": StorageUnavailableError("S3 answered 503")}
    with pytest.raises(StorageUnavailableError):
        prepared(tmp_path, source_of(objects)[0])
    assert len(prepared(tmp_path, source_of(whole())[0])[0]) == 6


def test_the_same_key_decodes_nothing_again(tmp_path: Path) -> None:
    first, _ = prepared(tmp_path, source_of(whole())[0])
    source, store = source_of({})
    second, _ = prepared(tmp_path, source)
    assert store.fetched == []
    assert (second.records, second.rows, second.contents) == (first.records, first.rows, first.contents)
    assert levels(second) == levels(first)


def test_another_key_decodes_again(tmp_path: Path) -> None:
    prepared(tmp_path, source_of(whole())[0])
    source, store = source_of({uri: png(7 + number) for number, uri in enumerate(whole())})
    data, _ = prepared(tmp_path, source, key="b")
    assert len(store.fetched) == 6
    assert levels(data) == [7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("content", ["", '{"key": "a", "contents": [nu', None], ids=["empty", "half", "absent"])
def test_files_of_a_killed_process_are_decoded_again(tmp_path: Path, content: str | None) -> None:
    prepared(tmp_path, source_of(whole())[0])
    state = tmp_path / "prepared.json"
    state.unlink() if content is None else state.write_text(content)
    source, store = source_of(whole())
    data, _ = prepared(tmp_path, source)
    assert len(store.fetched) == 6
    assert levels(data) == [0, 40, 80, 120, 160, 200]


def test_half_replaced_pixels_are_not_used(tmp_path: Path) -> None:
    prepared(tmp_path, source_of(whole())[0], key="a")
    away = dict.fromkeys(whole(), png(7)) | {"s3://bucket/set/5.png": StorageUnavailableError("away")}
    with pytest.raises(StorageUnavailableError):
        prepared(tmp_path, source_of(away)[0], key="b")
    data, _ = prepared(tmp_path, source_of(whole())[0], key="a")
    assert levels(data) == [0, 40, 80, 120, 160, 200]


def test_a_full_disk_is_an_error_before_anything_is_decoded(tmp_path: Path) -> None:
    source, store = source_of(whole())
    large = ImageSource(store, source.images, Preprocessing(edge=4096), source.limits)
    with pytest.raises(ConfigurationError, match=r"--output: .* no room for 960000000 MiB"):
        prepared(tmp_path, large, records=[RECORDS[0]] * 20_000_000)
    assert store.fetched == []


def test_a_split_keeps_the_same_content_on_one_side(tmp_path: Path) -> None:
    twins = {f"s3://bucket/set/{number}.png": png(40 * (number % 3)) for number in range(6)}
    data, _ = prepared(tmp_path, source_of(twins)[0], records=[record(number, label=0) for number in range(6)])
    held = hashlib.sha256(png(40)).hexdigest()
    learned, held_out = data.split(lambda content: content == held)
    assert [one.image for one in learned.records] == ["0.png", "2.png", "3.png", "5.png"]
    assert [one.image for one in held_out.records] == ["1.png", "4.png"]
    assert (levels(learned), levels(held_out)) == ([0, 80, 0, 80], [40, 40])
    assert set(held_out.contents) == {held}
    assert held not in learned.contents


def test_classes_are_the_values_of_any_field_in_order() -> None:
    records = [
        record(0, cate="satellite"),
        record(1, cate="animal"),
        record(2),
        record(3, cate="animal", family="grid"),
    ]
    assert classes_of(records, "cate") == ["", "animal", "satellite"]
    assert classes_of(records, "label") == ["0", "1"]
    assert [value_of(one, "family") for one in records] == ["", "", "", "grid"]


def test_the_state_is_plain_json(tmp_path: Path) -> None:
    prepared(tmp_path, source_of({})[0])
    state = json.loads((tmp_path / "prepared.json").read_text())
    assert state["contents"] == [None] * 6
    assert [fault["cause"] for fault in state["faults"]] == ["missing_image"] * 6


def test_a_content_with_both_labels_is_not_used(tmp_path: Path) -> None:
    objects = whole() | {"s3://bucket/set/3.png": png(0), "s3://bucket/set/4.png": png(0)}
    source, _ = source_of(objects)
    for _again in range(2):
        data, faults = prepared(tmp_path, source)
        assert [(fault.line, fault.cause) for fault in faults] == [(one, Cause.CONFLICT) for one in (1, 4, 5)]
        assert [one.image for one in data.records] == ["1.png", "2.png", "5.png"]
        assert levels(data) == [40, 80, 200]
