"""An evaluation that is killed with SIGKILL at random moments makes the same predictions, and none of them twice.

KILLED_EVALUATION_KILLS says how often it is killed. The default is 5.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, wait_for
from tests.scripted_evaluation import evaluate_scripted
from tests.unit.test_evaluation import write_dataset
from worker.lab.evaluation.perturbations import PERTURBATIONS
from worker.testing import ScriptedEngine

KILLS = int(os.environ.get("KILLED_EVALUATION_KILLS", "5"))
IMAGES_PER_KILL = 12
"""Each is judged under thirteen perturbations. So no evaluation finishes before it is killed."""
IMAGE_S = 0.01


@pytest.mark.timeout(120 + 30 * KILLS)
def test_a_killed_evaluation_makes_the_same_predictions(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "set", IMAGES_PER_KILL * KILLS)
    evaluate_scripted(dataset, tmp_path / "whole", ScriptedEngine(), tuple(PERTURBATIONS))
    wanted = (tmp_path / "whole" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(wanted) == IMAGES_PER_KILL * KILLS * len(PERTURBATIONS)

    output, chance = tmp_path / "killed", random.Random(1)
    for _ in range(KILLS):
        before = size_of(output)
        with running(dataset, output) as process:
            wait_for(lambda: size_of(output) > before or process.poll() is not None, 60)  # noqa: B023
            try:
                process.wait(chance.uniform(0, 0.5))
            except subprocess.TimeoutExpired:
                process.kill()
        assert process.returncode == -9, "the evaluation had ended before it was killed"
        assert not (output / "metrics.json").exists()
    with running(dataset, output) as process:
        assert process.wait(120) == 0
    assert (output / "predictions.jsonl").read_text(encoding="utf-8").splitlines() == wanted
    assert len(set(wanted)) == len(wanted)
    for name in ("metrics.json", "faults.jsonl"):
        assert (output / name).read_text() == (tmp_path / "whole" / name).read_text()


def size_of(output: Path) -> int:
    file = output / "predictions.jsonl"
    return file.stat().st_size if file.exists() else 0


def running(dataset: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.scripted_evaluation", str(dataset), str(output), str(IMAGE_S)]
    return subprocess.Popen(command, cwd=ROOT)
