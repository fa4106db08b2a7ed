"""An evaluation of a detector that gives no reasons invents no figures from its empty answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.classifiers import BrightModel, bright_detector
from tests.scripted_evaluation import scripted_parts
from tests.unit.test_evaluation import lines_of, write_dataset
from worker.detector.cascade import CascadeDetector
from worker.detector.description import CascadeDescription
from worker.detector.detector import Detector
from worker.detector.vlm import VlmDetector
from worker.lab.datasets.faults import Faults, read_records
from worker.lab.evaluation.evaluate import evaluate_records
from worker.testing import ScriptedEngine, scripted_description


def evaluate(detector: Detector, dataset: Path, output: Path) -> dict[str, Any]:
    faults = Faults()
    records = read_records(dataset, faults)
    assert any(one.answer for one in records)
    parts = scripted_parts(
        dataset.parent, faults, ScriptedEngine(), description=detector.description, start=lambda: detector
    )
    return evaluate_records(dataset, records, parts, faults, output, embeddings="none", resamples=20)


def test_a_classifier_has_no_similarity_of_words(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set")
    metrics = evaluate(bright_detector(BrightModel()), dataset, tmp_path / "out")
    assert (metrics["n"], metrics["accuracy"], metrics["undecided"]) == (6, pytest.approx(5 / 6), 0)
    assert (metrics["rouge_l"], metrics["css"]) == (None, None)
    why = "no answer in words has a reference in the dataset"
    assert (metrics["skipped"]["rouge_l"], metrics["skipped"]["css"]) == (why, why)
    predictions = lines_of(tmp_path / "out" / "predictions.jsonl")
    assert {(one["answer"], one["reference"]) for one in predictions} == {("", None)}
    assert all(0 < one["score"] < 1 for one in predictions)
    page = " ".join((tmp_path / "out" / "report.html").read_text().split())
    assert "no prompt: it gives a score and no reasons" in page
    assert "<dt>Answers</dt><dd>a score and no reasons</dd>" in page
    assert "prompt <code>none</code>" not in page
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["detector"]["prompt_revision"] == "none"


def test_only_the_words_of_a_cascades_judge_are_compared(tmp_path: Path) -> None:
    first = bright_detector(BrightModel())
    judge = scripted_description(preprocessing=first.description.preprocessing)
    content = {"name": "both", "first": first.description, "judge": judge, "clear": {"up_to": 0.3, "audit_share": 0}}
    cascade = CascadeDetector(CascadeDescription.model_validate(content), first, VlmDetector(ScriptedEngine(), judge))
    dataset = write_dataset(tmp_path / "set")
    metrics = evaluate(cascade, dataset, tmp_path / "out")
    predictions = lines_of(tmp_path / "out" / "predictions.jsonl")
    assert {bool(one["answer"]) for one in predictions} == {True, False}
    assert all(bool(one["answer"]) == bool(one["reference"]) for one in predictions)
    assert metrics["rouge_l"] > 0.5
