"""`fakesweep leaderboard` as a process: its page, its JSON, and one line for what is wrong."""

import json
from pathlib import Path

import pytest

from tests.processes import fakesweep
from tests.unit.predicting import drawn_predictions, write_evaluation
from worker.testing import scripted_description


@pytest.fixture
def evaluations(tmp_path: Path) -> list[str]:
    better = drawn_predictions(200, 1, slope=2)
    worse = [one.model_copy(update={"score": 1 - (one.score or 0)}) for one in better]
    return [
        str(write_evaluation(tmp_path / name / "set", some, scripted_description(name=name)))
        for name, some in (("one", worse), ("two", better))
    ]


def test_two_detectors_are_ranked(evaluations: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    options = ["--speed", "two=10", "--price", "3.6", "--output", str(page), "--json"]
    done = fakesweep("leaderboard", evaluations[0], f"second={evaluations[1]}", *options, environment={})
    assert done.returncode == 2
    assert "--speed: no detector has the name 'two': give one of one, second" in done.stderr
    assert not page.exists()
    options[1] = "second=10"
    done = fakesweep("leaderboard", evaluations[0], f"second={evaluations[1]}", *options, environment={})
    assert done.returncode == 0, done.stderr
    second, one = json.loads(done.stdout)["detectors"]
    assert (one["detector"], one["place"], one["cost"]) == ("one", 2, None)
    assert (second["detector"], second["speed"], second["cost"]) == ("second", 10, pytest.approx(0.1))
    assert "Leaderboard of 2 detectors" in page.read_text()


def test_a_detector_that_was_trained_on_the_set_is_named(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "set", drawn_predictions(200, 1), scripted_description(), trained_on=["set"])
    done = fakesweep("leaderboard", str(folder), environment={})
    assert done.returncode == 0, done.stderr
    assert f"warning: {folder} is on the dataset that scripted was trained on, so its figures are too" in done.stderr
    assert "too good: trained on x" in done.stdout
    assert "  scripted (too good: trained on this set): accuracy" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("/no/such/folder",), "/no/such/folder cannot be read"),
        (("=folder",), "give FOLDER, or NAME=FOLDER"),
        (("a", "--speed", "a=fast"), "give NAME=IMAGES/S with a number above 0"),
        (("a", "--speed", "a=nan"), "give NAME=IMAGES/S with a number above 0"),
        (("a", "--speed", "a=1", "--speed", "a=2"), "a has two speeds: give one"),
        (("a", "--price", "2"), "--price needs --speed"),
        (("a", "--speed", "a=1", "--price", "inf"), "give what an hour of the machine costs"),
        (("a", "--output", "/no/such/folder/page.html"), "--output"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = fakesweep("leaderboard", *arguments, environment={})
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
