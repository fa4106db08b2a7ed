"""`fakesweep calibrate` and `fakesweep compare` as processes, on what `fakesweep evaluate` leaves behind."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DEMO_DETECTOR
from tests.processes import fakesweep
from tests.unit.predicting import drawn_predictions, predicted, write_evaluation
from worker.detector.description import DetectorDescription
from worker.detector.loading import load_description
from worker.settings import Settings

DEMO = str(DEMO_DETECTOR)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return fakesweep(*map(str, arguments), environment={"FAKESWEEP_ENGINE": "transformers"})


def refused(*arguments: object) -> str:
    """The one line that a refused command prints."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fakesweep: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def found(*arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


@pytest.fixture(scope="module")
def sets(description: DetectorDescription, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Evaluations of the demo detector on two sets. The first one also has a perturbed and an undecided image."""
    folder = tmp_path_factory.mktemp("evaluations")
    more = [
        predicted("changed.png", fake=True, log_odds=1.0, perturbation="jpeg_70"),
        predicted("unsaid\x1b[31m.png", fake=True, log_odds=None),
    ]
    fit = write_evaluation(folder / "fit", [*drawn_predictions(600, seed=1), *more], description)
    return fit, write_evaluation(folder / "report", drawn_predictions(600, seed=2), description)


def test_a_calibration_is_fitted_measured_and_stored(
    sets: tuple[Path, Path], description: DetectorDescription, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    content = found(
        "calibrate", *sets, "--detector", DEMO, "--output", tmp_path / "new", "--false-positive-rate", 0.05,
        "--page", page,
    )  # fmt: skip
    assert content["output"] == str(tmp_path / "new" / "detector.toml")
    stored = load_description(Settings(detector=str(tmp_path / "new")))
    assert stored.model == DEMO
    assert stored.calibration.slope == content["calibration"]["slope"] == pytest.approx(0.5, abs=0.1)
    assert stored.thresholds.model_dump() == content["thresholds"]
    assert content["fingerprint_before"] == description.fingerprint
    assert content["fingerprint_after"] == stored.model_copy(update={"revision": description.revision}).fingerprint
    assert content["fingerprint_after"] != content["fingerprint_before"]
    assert content["calibration"]["images"] == 600
    assert (content["fit"]["undecided"], content["fit"]["perturbed"]) == (1, 1)
    assert content["fit"]["false_positives"]["share"] <= 0.05
    assert content["report"]["after"]["expected_calibration_error"] == pytest.approx(
        stored.calibration.error_after, abs=5e-5
    )
    html = page.read_text()
    assert html.count("<svg") == 2
    assert "Demo detector: this is not FakeVLM." in html
    assert content["fingerprint_after"] in html


def test_one_set_is_split_and_the_output_says_how(sets: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(
        "calibrate", sets[0] / "predictions.jsonl", "--detector", DEMO, "--output", tmp_path / "x.toml",
        "--method", "isotonic", "--seed", 3,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for wanted in (
        "isotonic on 2", "split 0.5, seed 3", "undecided and left out: ", "expected calibration error: 0.",
        "real images called fake: ", "fingerprint: ", " -> ", f"written to {tmp_path / 'x.toml'}",
    ):  # fmt: skip
        assert wanted in done.stdout
    for wanted in ("warning: isotonic regression on 2", "but 299 without an error are needed"):
        assert wanted in done.stderr
    assert load_description(Settings(detector=str(tmp_path / "x.toml"))).calibration.knots


def test_bad_usage_of_calibrate_and_compare_gives_one_line(sets: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "x.toml"
    given = ("--detector", DEMO, "--output", output)
    assert "--split divides one set" in refused("calibrate", *sets, *given, "--split", 0.5)
    assert "share 601 images" in refused("calibrate", sets[0], sets[0], *given)
    assert not output.exists()
    output.write_text("mine")
    assert "exists already" in refused("calibrate", *sets, *given, "--in-place")
    assert output.read_text() == "mine"
    assert "--output: " in (line := refused("calibrate", *sets, "--detector", DEMO, "--output", output / "x"))
    assert f"{output / 'x'}" not in line
    assert "x.toml is a file, not a folder" in line
    nowhere = tmp_path / "none" / "page.html"
    elsewhere = ("--detector", DEMO, "--output", tmp_path / "y.toml")
    for option, command in (("--page", ("calibrate", *sets, *elsewhere)), ("--output", ("compare", *sets))):
        for place, said in (
            (nowhere, f"there is no folder {nowhere.parent}; make it"),
            (tmp_path, f"{tmp_path} is a folder; name a file in it"),
        ):
            assert refused(*command, option, place).startswith(f"fakesweep: {option}: {said}")
    assert not (tmp_path / "y.toml").exists()


def test_two_detectors_are_compared(sets: tuple[Path, Path], tmp_path: Path) -> None:
    words = {True: 2.0, False: -2.0}
    others = [
        predicted(one.image, fake=one.is_fake, log_odds=words[one.is_fake]) for one in drawn_predictions(600, seed=1)
    ]
    better = write_evaluation(tmp_path / "better", [*others, predicted("<b>.png", fake=True, log_odds=1.0)])
    page = tmp_path / "page.html"
    content = found("compare", sets[0], better, "--output", page)
    assert (content["images"], content["accuracy_b"], content["winner"]) == (600, 1.0, "B")
    assert content["only_in_a"] == ["unsaid\x1b[31m.png"]
    assert content["only_in_b"] == ["<b>.png"]
    assert content["table"]["only_b"] == len(content["disagreements"])
    assert content["a"]["detector"]["name"] == "demo"
    html = page.read_text()
    assert "&lt;b&gt;.png" in html
    assert "<b>.png" not in html
    assert "unsaid⟨U+001B⟩[31m.png" in html
    lines = run("compare", sets[0], better).stdout
    assert "\x1b" not in lines
    assert "only in A, left out: 1 images, such as unsaid\\x1b[31m.png" in lines
    assert "B is right more often" in lines
