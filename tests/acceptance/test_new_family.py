"""A kind of fake that the demo detector has never seen, learned by `fakesweep train` without forgetting the others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo.answers import FAMILIES, LATER_FAMILIES
from deploy.demo.draw import draw_set
from tests.conftest import DEMO_DETECTOR
from worker.lab.datasets.reading import read_dataset
from worker.lab.datasets.records import Record
from worker.lab.evaluation.journal import read_predictions

ROOT = Path(__file__).parents[2]
(NEW,) = LATER_FAMILIES
MIXED = tuple(family for old in FAMILIES for family in (NEW, old))
"""Half of the fakes are of the new family. The others repeat the old families, so that they are not forgotten."""


def run(*arguments: str) -> None:
    command = [sys.executable, "-m", "producers", *arguments]
    # On one core, transformers judges these images in a third of the time of vLLM, which takes half a minute to start.
    # tests/contract/test_parity.py shows that both give the same answers.
    environment = {**os.environ, "FAKESWEEP_ENGINE": "transformers"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]


def shares(dataset: Path, evaluation: Path) -> tuple[float, float]:
    """The recall of the new family, and the share of right verdicts on all other images, in percent."""
    families = {
        one.image: (one.model_extra or {})["family"] for one in read_dataset(dataset) if isinstance(one, Record)
    }
    new: list[bool] = []
    old: list[bool] = []
    for one in read_predictions(evaluation):
        right = one.verdict == ("fake" if one.is_fake else "real")
        (new if families[one.image] == NEW else old).append(right)
    return 100 * sum(new) / len(new), 100 * sum(old) / len(old)


@pytest.mark.timeout(900)
def test_a_fine_tune_learns_the_new_family_and_keeps_the_old_ones(tmp_path: Path) -> None:
    learned, asked = tmp_path / "learned", tmp_path / "asked"
    draw_set(learned, 800, seed=8, families=MIXED)
    draw_set(asked, 160, seed=9, families=(*FAMILIES, *[NEW] * 3))  # many of the new one: its recall is measured
    dataset = asked / "records.json"
    run("evaluate", str(dataset), "--detector", str(DEMO_DETECTOR), "--output", str(tmp_path / "before"))
    run(
        "train", str(learned / "records.json"), "--detector", str(DEMO_DETECTOR), "--output", str(tmp_path / "tuned"),
        "--recipe", str(ROOT / "deploy" / "demo" / "fine_tune.toml"), "--evaluate", str(dataset),
    )  # fmt: skip
    before, after = shares(dataset, tmp_path / "before"), shares(dataset, tmp_path / "tuned" / "evaluation")
    print(f"recall of {NEW}: {before[0]:.1f} -> {after[0]:.1f} %")
    print(f"right on all else: {before[1]:.1f} -> {after[1]:.1f} %")
    assert after[0] >= before[0] + 20
    assert after[1] >= before[1] - 2
