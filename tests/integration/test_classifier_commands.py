"""`fakesweep evaluate`, `calibrate`, `compare` and `leaderboard` with a tiny classifier, as processes."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.draw import draw_set
from tests.classifiers import detector_toml, save_classifier
from tests.processes import fakesweep
from tests.unit.predicting import drawn_predictions, predicted, write_evaluation
from worker.detector.description import ClassifierDescription
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.settings import Settings
from worker.testing import scripted_description

IMAGES = 12
QUIET = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = detector_toml(save_classifier(tmp_path_factory.mktemp("detectors") / "tiny"))
    text = (made / "detector.toml").read_text(encoding="utf-8")
    (made / "detector.toml").write_text(f"# This comment stays.\n{text}", encoding="utf-8")
    return made


def run(*arguments: object) -> str:
    done = fakesweep(*map(str, arguments), environment=QUIET, timeout_s=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


def described(detector: Path) -> ClassifierDescription:
    settings = Settings(detector=str(detector))
    found = supply(load_description(settings), settings)[0]
    assert isinstance(found, ClassifierDescription)
    return found


def test_a_set_with_reference_answers_is_evaluated_without_words(folder: Path, tmp_path: Path) -> None:
    draw_set(tmp_path / "set", IMAGES, seed=5)
    arguments = (tmp_path / "set" / "records.json", "--detector", folder, "--output", tmp_path / "out")
    metrics: dict[str, Any] = json.loads(run("evaluate", *arguments, "--resamples", 20, "--json"))
    assert (metrics["n"], metrics["faults"], metrics["explain"]) == (IMAGES, {}, "none")
    assert (metrics["rouge_l"], metrics["css"], metrics["undecided"]) == (None, None, 0)
    assert metrics["detector"]["name"] == "tiny"
    assert metrics["detector"]["fingerprint"] == described(folder).fingerprint


def test_a_calibration_is_written_into_its_description(folder: Path, tmp_path: Path) -> None:
    own = described(folder)
    sets = [
        write_evaluation(tmp_path / name, drawn_predictions(600, seed), own) for name, seed in (("fit", 1), ("on", 2))
    ]
    content = json.loads(run("calibrate", *sets, "--detector", folder, "--output", tmp_path / "new", "--json"))
    stored = load_description(Settings(detector=str(tmp_path / "new")))
    assert isinstance(stored, ClassifierDescription)
    assert (stored.labels, stored.preprocessing, stored.model) == (own.labels, own.preprocessing, str(folder))
    assert stored.calibration.slope == content["calibration"]["slope"] == pytest.approx(0.5, abs=0.1)
    assert (tmp_path / "new" / "detector.toml").read_text(encoding="utf-8").startswith("# This comment stays.\n")
    assert stored.fingerprint != own.fingerprint


def test_it_is_compared_with_a_detector_that_has_words(folder: Path, tmp_path: Path) -> None:
    better = drawn_predictions(200, 1, slope=2)
    worse = [predicted(one.image, fake=one.is_fake, log_odds=-(one.log_odds or 0)) for one in better]
    one = write_evaluation(tmp_path / "tiny" / "set", worse, described(folder))
    other = write_evaluation(tmp_path / "scripted" / "set", better, scripted_description())
    assert "tiny" in run("compare", one, other, "--output", tmp_path / "compared.html")
    page = tmp_path / "leaderboard.html"
    run("leaderboard", f"tiny={one}", f"scripted={other}", "--output", page)
    for written in (tmp_path / "compared.html", page):
        assert "prompt <code>none</code>" not in written.read_text(encoding="utf-8")
