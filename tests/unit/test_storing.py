"""Storing writes a calibration and thresholds into a description. Nothing else changes."""

import tomllib
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.conftest import DEMO_DETECTOR
from worker.detector.calibration import Calibration
from worker.detector.description import DetectorDescription, Thresholds
from worker.detector.loading import load_description
from worker.errors import ConfigurationError
from worker.lab.evaluation.storing import output_file, store
from worker.settings import Settings

CALIBRATION = Calibration(slope=0.8, offset=-0.1, fitted_on="here", images=600, error_before=0.1, error_after=0.02)
KNOTS = Calibration(knots=((-3.25, 0.001), (0.1, 0.5), (2.0, 0.999)), fitted_on="here")
THRESHOLDS = Thresholds(fake_from=0.912345678901234, real_to=0.1)
TEXT = """# What it is.
name = "some"   # for people
model = "."
prompt = "p"

[prompts]
p = "<image>?"

[thresholds]
# For audits.
fake_from = 0.9   # careful
real_to = 0.1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "detector.toml").write_text(TEXT)
    return tmp_path / "own"


def stored(output: Path, calibration: Calibration = CALIBRATION, **given: Any) -> DetectorDescription:
    """Stores with these settings. Returns the description, which is read without them."""
    settings = Settings(**given)
    path = output_file(output, settings, in_place=True)
    store(calibration, THRESHOLDS, path, settings)
    return load_description(Settings(detector=str(path)))


@pytest.mark.parametrize("calibration", [CALIBRATION, KNOTS, Calibration()])
@pytest.mark.parametrize("detector", ["fakevlm", str(DEMO_DETECTOR)])
def test_only_calibration_and_thresholds_change(detector: str, calibration: Calibration, tmp_path: Path) -> None:
    before = load_description(Settings(detector=detector))
    after = stored(tmp_path / "new", calibration, detector=detector)
    assert after == before.model_copy(update={"calibration": calibration, "thresholds": THRESHOLDS})
    assert (after.fingerprint == before.fingerprint) == (calibration == Calibration())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["detector.toml"]


def test_comments_and_order_are_kept(folder: Path) -> None:
    stored(folder, detector=str(folder))
    text = (folder / "detector.toml").read_text()
    assert text.startswith(TEXT[: TEXT.index("fake_from")])
    assert "fake_from = 0.912345678901234   # careful" in text
    assert tomllib.loads(text)["model"] == "."


def test_an_older_calibration_is_replaced_completely(folder: Path) -> None:
    stored(folder, detector=str(folder))
    assert stored(folder, KNOTS, detector=str(folder)).calibration == KNOTS
    assert stored(folder, Calibration(slope=0.5), detector=str(folder)).calibration == Calibration(slope=0.5)


def test_a_new_file_elsewhere_refers_to_the_model_of_the_old_one(folder: Path, tmp_path: Path) -> None:
    assert stored(tmp_path / "elsewhere" / "x.toml", detector=str(folder)).model == str(folder)
    assert stored(folder / "other.toml", detector=str(folder)).model == str(folder)
    assert tomllib.loads((folder / "other.toml").read_text())["model"] == "."


def test_a_model_in_a_folder_beside_the_old_file_is_found(folder: Path, tmp_path: Path) -> None:
    (folder / "weights").mkdir()
    (folder / "detector.toml").write_text(TEXT.replace('"."', '"weights"'))
    assert stored(tmp_path / "x.toml", detector=str(folder)).model == str(folder / "weights")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "/models/other"},
        {"model": "/models/other", "revision": "c" * 40},
        {"prompt": "llava-chat"},
        {"dtype": "bfloat16", "quantization": "fp8_per_tensor", "kv_cache_dtype": "fp8"},
        {"revision": "c" * 40},
    ],
)
def test_values_of_the_environment_are_written_into_the_file(changes: dict[str, Any], tmp_path: Path) -> None:
    meant = load_description(Settings(detector="fakevlm", **changes))
    after = stored(tmp_path / "x.toml", detector="fakevlm", **changes)
    assert after == meant.model_copy(update={"calibration": CALIBRATION, "thresholds": THRESHOLDS})


def test_checksums_of_a_model_that_was_replaced_are_dropped(folder: Path, tmp_path: Path) -> None:
    (folder / "detector.toml").write_text(f'{TEXT}\n[checksums]\n"config.json" = "{"a" * 64}"\n')
    assert stored(tmp_path / "x.toml", detector=str(folder)).checksums
    assert not stored(tmp_path / "y.toml", detector=str(folder), model="/models/other").checksums


def test_a_description_in_s3(bucket: str, s3_environment: str, tmp_path: Path) -> None:
    boto3.client("s3", endpoint_url=s3_environment).put_object(Bucket=bucket, Key="d/detector.toml", Body=TEXT.encode())
    assert stored(tmp_path, detector=f"s3://{bucket}/d").model == f"s3://{bucket}/d"


def test_no_other_file_is_replaced(folder: Path, tmp_path: Path) -> None:
    settings = Settings(detector=str(folder))
    (tmp_path / "detector.toml").write_text("x")
    for in_place in (False, True):
        with pytest.raises(ConfigurationError, match=r"--output: .* exists already"):
            output_file(tmp_path, settings, in_place=in_place)
    with pytest.raises(ConfigurationError, match=r"own; --in-place replaces it"):
        output_file(folder, settings, in_place=False)
    assert output_file(folder, settings, in_place=True) == folder / "detector.toml"
    assert output_file(tmp_path / "new", settings, in_place=False) == tmp_path / "new" / "detector.toml"
    assert output_file(tmp_path / "new.toml", settings, in_place=False) == tmp_path / "new.toml"


def test_an_output_below_a_file_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for output in ("file", "file/x", "file/x.toml"):
        with pytest.raises(ConfigurationError, match=r"--output: .*/file is a file, not a folder"):
            output_file(tmp_path / output, Settings(detector=str(folder)), in_place=False)


def test_a_file_with_another_meaning_is_not_written(folder: Path, tmp_path: Path) -> None:
    """Where the new file lies, a folder has the name of the hub id."""
    (folder / "detector.toml").write_text(TEXT.replace('"."', '"owner/model"'))
    (tmp_path / "new" / "owner" / "model").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="would describe another detector"):
        stored(tmp_path / "new", detector=str(folder))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["owner"]
