"""The classifiers that are described in the package. Their weights are not here: tests read what the files say."""

import re
from pathlib import Path

import pytest

import worker.detector
from worker.detector.description import ClassifierDescription, Kind
from worker.detector.labels import label_numbers
from worker.detector.loading import load_description
from worker.settings import Settings

SHIPPED = sorted(path.stem for path in Path(worker.detector.__file__).parent.glob("*.toml"))
LABELS = {
    "ai-vs-real": {0: "REAL", 1: "FAKE"},
    "community-forensics": {0: "LABEL_0"},
    "deepfake-vs-real": {0: "Real", 1: "Fake"},
}
"""What the models' config.json has."""


def described(name: str) -> ClassifierDescription:
    found = load_description(Settings(detector=name))
    assert isinstance(found, ClassifierDescription)
    return found


def test_every_description_of_the_package_names_its_kind_and_can_be_read() -> None:
    kinds = {name: load_description(Settings(detector=name)).kind for name in SHIPPED}
    assert kinds == {"fakevlm": Kind.VLM} | dict.fromkeys(LABELS, Kind.CLASSIFIER)


@pytest.mark.parametrize("name", LABELS)
def test_a_ready_classifier_says_what_one_must_know_before_using_it(name: str) -> None:
    found = described(name)
    assert found.name == name
    assert found.license in {"MIT", "Apache-2.0"}
    assert "not been run with its weights by us" in (found.notice or "")
    assert found.revision is None or re.fullmatch("[0-9a-f]{40}", found.revision)
    fake, real = label_numbers(found.labels, LABELS[name])
    assert sorted((*fake, *real)) == sorted(LABELS[name])
    pages = (Path(worker.detector.__file__).parents[2] / "docs" / "which-detector.md").read_text(encoding="utf-8")
    assert f"`{name}`" in pages
    assert found.license in pages


def test_community_forensics_sees_the_centre_of_a_larger_square() -> None:
    found = described("community-forensics")
    assert (found.preprocessing.revision, found.input_edge) == ("clip-pillow-1@440", 384)


@pytest.mark.parametrize("name", ["ai-vs-real", "deepfake-vs-real"])
def test_the_vits_see_the_whole_image_without_its_proportions(name: str) -> None:
    found = described(name)
    assert (found.preprocessing.revision, found.input_edge) == ("stretch-bilinear-pillow-1@224", 224)
