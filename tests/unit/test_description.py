"""Descriptions of detectors, and where their models come from."""

import json
from pathlib import Path

import pytest

from worker.detector.description import DetectorDescription
from worker.detector.prompts import IMAGE_TOKEN, PROMPTS
from worker.detector.supply import supply
from worker.errors import ConfigurationError


def folder_with(tmp_path: Path, text: str) -> str:
    (tmp_path / "detector.toml").write_text(text)
    return str(tmp_path)


def test_fakevlm_is_asked_as_its_authors_ask_it() -> None:
    description = DetectorDescription.load("fakevlm")
    assert description.prompt_text == "<image>Does the image looks real/fake?"
    assert (description.edge, description.dtype, description.max_model_len) == (336, "float16", 800)


@pytest.mark.parametrize("prompt", PROMPTS.values())
def test_every_prompt_has_one_image(prompt: str) -> None:
    assert prompt.count(IMAGE_TOKEN) == 1


def test_another_model_is_another_detector() -> None:
    own = DetectorDescription.load("fakevlm")
    other = DetectorDescription.load("fakevlm", model="somebody/else")
    assert own.fingerprint != other.fingerprint
    assert own.fingerprint == DetectorDescription.load("fakevlm").fingerprint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not a description"),
        ("name = 'x'", "model"),
        ("name = 'x'\nmodel = '.'\nprompt = 'sing'", "official-raw"),
        ("name = 'x'\nmodel = '.'\nedge = 'big'", "edge"),
        ("name = 'x'\nmodel = '.'\ncolour = 1", "colour"),
    ],
)
def test_a_bad_description_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        DetectorDescription.load(folder_with(tmp_path, text))


def test_an_unknown_detector_lists_the_known() -> None:
    with pytest.raises(ConfigurationError, match=r"FAKESWEEP_DETECTOR.*fakevlm"):
        DetectorDescription.load("nobody")


def test_a_folders_revision_is_the_checksum_of_what_lies_in_it(tmp_path: Path) -> None:
    description = DetectorDescription.load(folder_with(tmp_path, "name = 'x'\nmodel = '.'"))
    (tmp_path / "config.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first, folder = supply(description)
    assert folder == tmp_path
    assert supply(description)[0].fingerprint == first.fingerprint
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert supply(description)[0].fingerprint != first.fingerprint


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    description = DetectorDescription.load(folder_with(tmp_path, "name = 'x'\nmodel = '.'"))
    with pytest.raises(ConfigurationError, match=r"FAKESWEEP_MODEL.*safetensors"):
        supply(description)


def test_a_model_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigurationError, match=r"FAKESWEEP_MODEL.*nobody/nothing"):
        supply(DetectorDescription.load("fakevlm", model="nobody/nothing"))
