"""A cascade starts with the first stage that its clear threshold was found with, and each stage with its own model."""

from pathlib import Path

import huggingface_hub
import pytest
from structlog.testing import capture_logs

from tests.classifiers import EDGE, detector_toml, drawn, save_classifier
from worker.detector.description import CascadeDescription
from worker.detector.loading import load_description
from worker.detector.start import SuppliedDetector, check_memory, supply_detector
from worker.detector.verdicts import Judgement
from worker.errors import ConfigurationError
from worker.images import to_square
from worker.messages import Policy
from worker.settings import Settings

SETTINGS = Settings()


def cascade_of(*stages: Path | str, clear: str = "up_to = 0.3\nmax_miss_rate = 0.005\n", place: Path) -> Settings:
    first, judge = stages
    (place / "cascade.toml").write_text(
        f'kind = "cascade"\nname = "both"\nfirst = "{first}"\njudge = "{judge}"\n[clear]\n{clear}'
    )
    return SETTINGS.model_copy(update={"detector": str(place / "cascade.toml")})


def supplied(settings: Settings) -> SuppliedDetector:
    return supply_detector(load_description(settings), settings)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return detector_toml(save_classifier(tmp_path / "first"), name='"quick"')


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    return detector_toml(save_classifier(tmp_path / "judge", seed=1), name='"sure"')


def fingerprint(folder: Path) -> str:
    return supplied(SETTINGS.model_copy(update={"detector": str(folder)})).description.fingerprint


def fitted(first: Path, judge: Path, place: Path) -> Settings:
    clear = f'up_to = 0.3\nmax_miss_rate = 0.005\nfitted_with = "{fingerprint(first)}"\n'
    return cascade_of(first, judge, clear=clear, place=place)


def test_the_first_stage_that_the_threshold_was_found_with_starts(first: Path, judge: Path, tmp_path: Path) -> None:
    settings = fitted(first, judge, tmp_path)
    with capture_logs() as logs:
        supplied(settings).start().close()
    assert not [one for one in logs if one["event"] == "cascade_first_stage_unknown"]


@pytest.mark.parametrize("change", ["calibrated", "trained"])
def test_another_first_stage_is_refused_before_the_judge_is_fetched(
    change: str, first: Path, judge: Path, tmp_path: Path
) -> None:
    settings = fitted(first, judge, tmp_path)
    if change == "calibrated":
        detector_toml(first, name='"quick"', calibration="{ slope = 2.0 }")
    else:
        save_classifier(first, seed=2)
    (judge / "config.json").unlink()  # whoever fetches it finds this fault first
    said = r"found with another first stage .* run fakesweep calibrate"
    with pytest.raises(ConfigurationError, match=said):
        supplied(settings)
    with pytest.raises(ConfigurationError, match=said):  # with FAKESWEEP_ALSO, this comes first
        check_memory(load_description(settings), (), settings)


def test_a_threshold_of_an_unknown_first_stage_is_warned_about(first: Path, judge: Path, tmp_path: Path) -> None:
    with capture_logs() as logs:
        supplied(cascade_of(first, judge, place=tmp_path))
    assert [one["detector"] for one in logs if one["event"] == "cascade_first_stage_unknown"] == ["both"]


def test_what_the_threshold_was_found_with_is_in_no_fingerprint(first: Path, judge: Path, tmp_path: Path) -> None:
    without, found = (
        load_description(settings)
        for settings in (cascade_of(first, judge, place=tmp_path), fitted(first, judge, tmp_path))
    )
    assert isinstance(found, CascadeDescription)
    assert found.clear.fitted_with
    assert without.fingerprint == found.fingerprint


def test_two_stages_of_one_hub_id_and_two_revisions_have_two_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = []
    for seed, name in enumerate(("quick", "sure")):
        commit = str(seed) * 40
        save_classifier(tmp_path / "hub" / "models--some--model" / "snapshots" / commit, seed=seed)
        (tmp_path / name).mkdir()
        stages.append(detector_toml(tmp_path / name, name=f'"{name}"', model='"some/model"', revision=f'"{commit}"'))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    images = [to_square(one, edge=EDGE) for one in drawn(4)]
    said = []
    for named in (*stages, cascade_of(*stages, clear="up_to = 0.0\n", place=tmp_path).detector):
        detector = supplied(SETTINGS.model_copy(update={"detector": str(named)})).start()
        said.append([one for one in detector.judge(images, Policy()) if isinstance(one, Judgement)])
    quick, sure, both = said
    assert [one.first_score for one in both] == [one.score for one in quick]
    assert [one.score for one in both] == [one.score for one in sure]
    assert quick[0].score != sure[0].score
