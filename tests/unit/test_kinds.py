"""The kinds of detectors: what their descriptions say, and which faults are found in them."""

from pathlib import Path
from typing import Any

import pytest

from worker.database.detectors import answer_limit
from worker.detector.description import CascadeDescription, ClassifierDescription, DetectorDescription, vlm_only
from worker.detector.loading import DescriptionFile, load_description
from worker.errors import ConfigurationError
from worker.messages import Explain, Policy
from worker.settings import Settings

CLASSIFIER = """
kind = "classifier"
name = "look"
model = "some/model"
license = "MIT"
[labels]
fake = ["ai"]
real = ["human"]
[input]
edge = 224
"""
CASCADE = """
kind = "cascade"
name = "both"
first = "./look.toml"
judge = "fakevlm"
[clear]
up_to = 0.01
"""


def described(
    folder: Path, cascade: str = CASCADE, classifier: str = CLASSIFIER, **settings: Any
) -> DetectorDescription:
    (folder / "look.toml").write_text(classifier)
    (folder / "both.toml").write_text(cascade)
    return load_description(Settings(detector=str(folder / "both.toml"), **settings))


def cascade(folder: Path, text: str = CASCADE, **settings: Any) -> CascadeDescription:
    found = described(folder, text, **settings)
    assert isinstance(found, CascadeDescription)
    return found


def test_a_cascade_holds_its_stages(tmp_path: Path) -> None:
    found = cascade(tmp_path)
    assert isinstance(found.first, ClassifierDescription)
    assert (found.first.name, found.judge.name, found.model) == ("look", "fakevlm", "look + fakevlm")
    assert found.preprocessing == found.judge.preprocessing
    assert (found.clear.up_to, found.clear.audit_share) == (0.01, 0.01)
    assert found.license == "MIT and CC BY-NC 4.0"


def test_a_cascade_has_the_licence_and_the_notice_of_both_stages_once(tmp_path: Path) -> None:
    noticed = CLASSIFIER.replace('license = "MIT"', 'license = "CC BY-NC 4.0"\nnotice = "Look is a test."')
    found = described(tmp_path, classifier=noticed)
    assert isinstance(found, CascadeDescription)
    assert found.license == "CC BY-NC 4.0"
    assert found.notice == f"{found.judge.notice} Look is a test."
    twice = described(tmp_path, CASCADE.replace('"fakevlm"', '"./look.toml"'), noticed)
    assert twice.notice == "Look is a test."


def test_a_stage_without_a_dot_is_not_a_folder_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "fakevlm").mkdir()
    (tmp_path / "fakevlm" / "detector.toml").write_text(CLASSIFIER)
    assert cascade(tmp_path).judge.name == "fakevlm"
    assert cascade(tmp_path, text=CASCADE.replace('"fakevlm"', '"./fakevlm"')).judge.name == "look"


def test_a_cascade_in_s3_has_stages_beside_it_and_one_on_the_hub_has_none() -> None:
    in_s3 = DescriptionFile("", "s3://bucket/both", "s3://bucket/both")
    assert in_s3.locate_stage("first", "./look") == "s3://bucket/both/look"
    assert in_s3.locate_stage("judge", "fakevlm") == "fakevlm"
    on_hub = DescriptionFile("", "org/both/detector.toml", "org/both", "0" * 40)
    assert on_hub.locate_stage("first", "org/look") == "org/look"
    with pytest.raises(ConfigurationError, match=r"first = \./look is a path, but a cascade on the hub holds no"):
        on_hub.locate_stage("first", "./look")


def test_a_cascade_is_another_one_if_a_stage_or_the_rule_changes(tmp_path: Path) -> None:
    prints = {
        described(tmp_path).fingerprint,
        described(tmp_path, CASCADE.replace("0.01", "0.02")).fingerprint,
        described(tmp_path, CASCADE + "audit_share = 0.5\n").fingerprint,
        described(tmp_path, classifier=CLASSIFIER.replace("224", "112")).fingerprint,
        described(tmp_path, quantization="fp8_per_tensor").fingerprint,
    }
    assert len(prints) == 5


def test_settings_for_the_engine_reach_the_judge_and_not_the_first_stage(tmp_path: Path) -> None:
    found = cascade(tmp_path, dtype="bfloat16")
    assert isinstance(found.first, ClassifierDescription)
    assert (found.first.dtype, vlm_only(found.judge, "a test").engine.dtype) == ("float32", "bfloat16")


@pytest.mark.parametrize(
    ("cascade", "classifier", "said"),
    [
        (CASCADE.replace('"fakevlm"', '"./both.toml"'), CLASSIFIER, "is a cascade itself"),
        (CASCADE, CLASSIFIER + "[preprocessing]\nedge = 224\n", "both stages see the same square"),
        (
            CASCADE.replace('judge = "fakevlm"\n', ""),
            CLASSIFIER,
            "both.toml: judge is missing: give the name, folder or file of a detector",
        ),
        (CASCADE + "[preprocessing]\nedge = 224\n", CLASSIFIER, "preprocessing belongs to the stages"),
        (CASCADE + "[calibration]\nslope = 2.0\n", CLASSIFIER, "calibration belongs to the stages"),
        (CASCADE.replace("0.01", "1.5"), CLASSIFIER, "clear.up_to: must be 1 or less"),
        (CASCADE, CLASSIFIER.replace('["human"]', '["ai"]'), "ai cannot mean fake and real"),
        (CASCADE, CLASSIFIER.replace("224", '500\nfit = "crop"'), "must not be above preprocessing.edge"),
        (CASCADE, CLASSIFIER.replace("[labels]", 'prompt = "p"\n[labels]'), "prompt: is not a known name"),
        (CASCADE, CLASSIFIER.replace("classifier", "oracle"), "kind must be one of vlm, classifier, cascade"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, cascade: str, classifier: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        described(tmp_path, cascade, classifier)


@pytest.mark.parametrize(("setting", "value"), [("prompt", "p"), ("model", "some/other"), ("revision", "main")])
def test_a_cascade_refuses_settings_of_a_single_model(tmp_path: Path, setting: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"FAKESWEEP_{setting.upper()}"):
        described(tmp_path, **{setting: value})


def test_what_needs_words_refuses_a_classifier(tmp_path: Path) -> None:
    found = cascade(tmp_path)
    with pytest.raises(ConfigurationError, match="look is a classifier, and annotation needs a vision-language model"):
        vlm_only(found.first, "annotation")


def test_a_stored_description_says_how_long_answers_may_be(tmp_path: Path) -> None:
    found = cascade(tmp_path)
    for one in (found, found.first, found.judge):
        stored = one.row().description
        assert stored is not None
        assert answer_limit(stored) == one.answer_limit
    assert (found.first.answer_limit, found.judge.answer_limit, found.answer_limit) == (None, 200, 200)


def test_a_detector_without_words_is_asked_for_none() -> None:
    policy = Policy(explain=Explain.ALL, max_tokens=20).filled(fake_from=0.6, real_to=0.4)
    asked = policy.of_detector(None, Explain.FLAGGED)
    assert (asked.explain, asked.max_tokens) == (Explain.NONE, None)
