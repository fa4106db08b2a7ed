"""Each bad folder of a classifier is refused before the start, in one line with its cause and its remedy."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.classifiers import classifier_description, detector_toml, save_classifier
from tests.conftest import DEMO_DETECTOR
from tests.unit.bad_models import HUGE, POINTER, WEIGHTS, edit, reweigh, sparse, unlink, write
from worker.detector.inspection import inspect
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.errors import ConfigurationError
from worker.settings import Settings


@dataclass(frozen=True)
class BadClassifier:
    """`spoil` makes a good folder bad, and `changes` its description. `said` is a regular expression for the error."""

    said: str
    spoil: Callable[[Path], object] = lambda _folder: None
    changes: dict[str, Any] = field(default_factory=dict)


def _as_timm(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_small_patch16_384", "num_classes": 2}))


def _as_vlm(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(DEMO_DETECTOR, folder)


_SAVE = "; put the model into a class of transformers"


def _first_of(tensors: dict[str, Any]) -> str:
    return min(name for name in tensors if name.endswith("weight") and "layer" in name)


BAD = {
    "a VLM": BadClassifier("type 'llava', which does not classify images; .*kind = \"vlm\"", _as_vlm),
    "no config": BadClassifier(
        f"holds weights and no config.json, .* timm keeps models so{_SAVE}", unlink("config.json")
    ),
    "timm": BadClassifier(
        rf"config.json is one of timm \(vit_small_patch16_384\), not of transformers{_SAVE}", _as_timm
    ),
    "no weights": BadClassifier(r"holds no weights \(\*\.safetensors\); give a folder", unlink(WEIGHTS)),
    "pickled": BadClassifier(
        "pickled weights only; save them as", lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    ),
    "a pointer": BadClassifier("git-lfs pointer, not the file itself; run git lfs pull", write(WEIGHTS, POINTER)),
    "no head": BadClassifier(
        r"do not fit its config.json: classifier.weight is missing \(1 such tensors\); give the config.json",
        reweigh(lambda tensors: tensors.pop("classifier.weight")),
    ),
    "another shape": BadClassifier(
        r"weight is \[9, \d+\], not \[\d+, \d+\] \(1 such tensors\); give the config.json that belongs",
        reweigh(lambda tensors: tensors.update({_first_of(tensors): tensors[_first_of(tensors)][:9].copy()})),
    ),
    "more labels": BadClassifier(
        r"classifier.bias is \[2\], not \[3\] \(2 such tensors\); give the config.json that belongs",
        edit("config.json", lambda config: config["id2label"].update({"2": "drawing"})),
    ),
    "too large": BadClassifier(
        r"needs at least 2000\.0 GB as float32, but there are only .*; use a larger GPU", lambda one: sparse(one, HUGE)
    ),
    "an unknown label": BadClassifier(
        "labels: the model has no label 'FAKE'; .*generated, photograph",
        changes={"labels": {"fake": ["FAKE"], "real": [1]}},
    ),
    "an output twice": BadClassifier(
        r"labels: output 0 \('generated'\) is named 2 times; name each output once",
        changes={"labels": {"fake": ["generated", 0], "real": [1]}},
    ),
    "an output that is fake and real": BadClassifier(
        r"labels: output 1 \('photograph'\) is named 2 times; name each output once",
        changes={"labels": {"fake": ["photograph"], "real": [1]}},
    ),
    "one name for two outputs": BadClassifier(
        "labels: 2 outputs of the model are called 'generated'; give their numbers",
        edit("config.json", lambda config: config["id2label"].update({"1": "generated"})),
        changes={"labels": {"fake": ["generated"], "real": [1]}},
    ),
    "no label for real": BadClassifier(
        "labels.real: the model has 2 outputs; name the labels that mean real", changes={"labels": {"fake": [0]}}
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("classifier") / "good")


@pytest.mark.parametrize("way", BAD)
def test_a_bad_classifier_is_refused_in_one_line(way: str, good: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(good, tmp_path / "model")
    BAD[way].spoil(folder)
    description = classifier_description(folder, **BAD[way].changes)
    with pytest.raises(ConfigurationError) as raised:
        inspect(folder, description, engine="vllm", gpu_memory_utilization=0.9)
    line = str(raised.value)
    assert re.fullmatch(rf"FAKESWEEP_(MODEL|DETECTOR): [^;]*{BAD[way].said}.*", line), line


def test_a_good_one_passes_whatever_the_engine_is(good: Path) -> None:
    for engine in ("vllm", "transformers"):
        inspect(good, classifier_description(good), engine=engine, gpu_memory_utilization=0.9)


def test_a_classifier_that_is_described_as_a_vlm_is_refused_with_the_remedy(good: Path) -> None:
    settings = Settings(detector=str(DEMO_DETECTOR), model=str(good), engine="transformers")
    with pytest.raises(ConfigurationError, match=r'a classifier \(ViTFor.*no reasons; set kind = "classifier"'):
        supply(load_description(settings), settings)


def test_a_folder_is_its_own_description(good: Path) -> None:
    settings = Settings(detector=str(detector_toml(good)))
    description, folder = supply(load_description(settings), settings)
    assert folder == good
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", description.revision or "")
