"""An output folder belongs to one training, and to one process at a time."""

import json
from pathlib import Path

import pytest

from worker.errors import ConfigurationError
from worker.lab.training.claim import RECORD, RUN, WORK, is_finished, one_writer, write_json

DONE = {"dataset": "d", "seed": 1}


def test_a_folder_is_claimed_for_one_training(tmp_path: Path) -> None:
    assert not is_finished(tmp_path, DONE, 1)
    assert not is_finished(tmp_path, DONE, 1)
    (tmp_path / WORK / "1-tower").mkdir()
    with pytest.raises(ConfigurationError, match=r"another training \(seed differ\); give another folder"):
        is_finished(tmp_path, DONE | {"seed": 2}, 1)


def test_a_finished_training_is_finished_for_any_number_of_processes(tmp_path: Path) -> None:
    write_json(tmp_path / RECORD, DONE | {"processes": 8, "images": 7})
    assert is_finished(tmp_path, DONE, 1)
    with pytest.raises(ConfigurationError, match="dataset differ"):
        is_finished(tmp_path, DONE | {"dataset": "e"}, 8)


def test_an_unfinished_training_needs_as_many_processes_as_it_began_with(tmp_path: Path) -> None:
    assert not is_finished(tmp_path, DONE, 2)
    (tmp_path / WORK / "1-tower").mkdir()
    with pytest.raises(ConfigurationError, match="processes differ"):
        is_finished(tmp_path, DONE, 4)


@pytest.mark.parametrize("name", ["config.json", "detector.toml", "model-00001-of-00002.safetensors"])
def test_a_model_of_unknown_origin_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigurationError, match="holds a model already; give another folder"), one_writer(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("left", [RECORD, f"{WORK}/{RUN}"])
def test_the_folder_of_a_training_can_be_used_again(tmp_path: Path, left: str) -> None:
    write_json(tmp_path / left, DONE)
    (tmp_path / "config.json").write_text("{}")
    with one_writer(tmp_path):
        pass


def test_two_processes_do_not_train_into_one_folder(tmp_path: Path) -> None:
    with one_writer(tmp_path):
        with pytest.raises(ConfigurationError, match="another process trains into"), one_writer(tmp_path):
            pass
        (tmp_path / RUN).write_text("{}")
    with one_writer(tmp_path):
        pass


def test_json_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "one.json"
    write_json(path, {"é": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": 1}
    assert [one.name for one in path.parent.iterdir()] == ["one.json"]


def test_a_training_that_has_learned_nothing_may_be_replaced(tmp_path: Path) -> None:
    """A training with a faulty dataset was refused. The dataset was corrected."""
    assert not is_finished(tmp_path, DONE, 1)
    mended = DONE | {"dataset": "e"}
    assert not is_finished(tmp_path, mended, 1)
    (tmp_path / WORK / "1-tower").mkdir()
    assert not is_finished(tmp_path, mended, 1)
    with pytest.raises(ConfigurationError, match="dataset differ"):
        is_finished(tmp_path, DONE, 1)


def test_a_finished_training_is_not_changed(tmp_path: Path) -> None:
    write_json(tmp_path / RECORD, DONE)
    with one_writer(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigurationError, match=r"--output: .* cannot be created or written to"),
        one_writer(tmp_path / "file"),
    ):
        pass
