"""`fakesweep calibrate --max-miss-rate` as a process, on what `fakesweep evaluate` leaves behind."""

import json
from pathlib import Path

import pytest

from tests.conftest import DEMO_DETECTOR
from tests.integration.test_calibrate_and_compare import refused, run
from tests.unit.predicting import predicted, write_evaluation
from worker.detector.description import CascadeDescription, DetectorDescription
from worker.detector.loading import load_description
from worker.settings import Settings

TEXT = """kind = "cascade"
name = "two"   # for people
first = "./quick"
judge = "./quick"

[clear]
audit_share = 0.02
"""


@pytest.fixture
def cascade(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "quick").symlink_to(DEMO_DETECTOR)
    (tmp_path / "own" / "detector.toml").write_text(TEXT)
    return tmp_path / "own"


def evaluation(folder: Path, description: DetectorDescription, fakes: int = 700) -> Path:
    images = [predicted(f"{folder.name}/f{number}", fake=True, log_odds=3.0) for number in range(fakes)]
    images += [predicted(f"{folder.name}/r{number}", fake=False, log_odds=-3.0) for number in range(50)]
    return write_evaluation(folder, images, description)


def test_a_clear_threshold_is_found_and_stored_beside_what_the_file_says(
    cascade: Path, description: DetectorDescription, tmp_path: Path
) -> None:
    fit, report = (evaluation(tmp_path / name, description) for name in ("fit", "report"))
    page = tmp_path / "page.html"
    done = run(
        "calibrate", fit, report, "--detector", cascade, "--output", tmp_path / "new", "--max-miss-rate", 0.005,
        "--judged", report, "--page", page, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    stored = load_description(Settings(detector=str(tmp_path / "new")))
    assert isinstance(stored, CascadeDescription)
    assert stored.clear.model_dump() == content["rule"]
    assert stored.clear.up_to == pytest.approx(0.0474, abs=1e-4)
    assert (stored.clear.audit_share, stored.clear.max_miss_rate, stored.clear.fakes) == (0.02, 0.005, 700)
    assert stored.clear.fitted_with == description.fingerprint
    assert stored.first.model == str(DEMO_DETECTOR.resolve())
    assert "# for people" in (tmp_path / "new" / "detector.toml").read_text()
    assert page.read_text().count("<svg") == 2
    assert "Risk-Controlling Prediction Sets" in page.read_text()
    lines = run(
        "calibrate", fit, report, "--detector", cascade, "--output", cascade, "--max-miss-rate", 0.005, "--in-place"
    )
    assert lines.returncode == 0, lines.stderr
    assert "fakes cleared: 0 of 700" in lines.stdout
    assert "the judge sees 4.0%" in lines.stdout
    assert "warning: without --judged" in lines.stderr
    assert load_description(Settings(detector=str(cascade))).model_dump()["clear"]["fakes"] == 700


def test_what_cannot_be_promised_writes_nothing(
    cascade: Path, description: DetectorDescription, tmp_path: Path
) -> None:
    fit, report = evaluation(tmp_path / "fit", description, 500), evaluation(tmp_path / "report", description)
    output = tmp_path / "x.toml"
    given = (fit, report, "--output", output)
    assert "has 500 fakes. --max-miss-rate 0.005 with 95 % confidence needs at least 598" in refused(
        "calibrate", *given, "--detector", cascade, "--max-miss-rate", 0.005
    )
    assert "calibrate its stages by themselves" in refused("calibrate", *given, "--detector", cascade)
    assert "is for a cascade, and demo is a vlm" in refused(
        "calibrate", *given, "--detector", DEMO_DETECTOR, "--max-miss-rate", 0.005
    )
    assert not output.exists()
