"""The training of a head that is killed continues with the features that it had."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.heads import backbone, learn, write_backbone, write_colours
from tests.processes import ROOT
from tests.training import environment


@pytest.mark.timeout(600)
def test_a_killed_training_of_a_head_shows_the_tower_only_the_rest(tmp_path: Path) -> None:
    dataset, model = write_colours(tmp_path / "set", 1200), write_backbone(tmp_path / "clip", "clip")
    output, features = tmp_path / "out", tmp_path / "cache" / "features"
    arguments = ["producers", "train", str(dataset), "--model", str(model), "--recipe", "head", "--hold-out", "0",
                 "--output", str(output)]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, env=given(tmp_path))
    try:
        while process.poll() is None and not list(features.glob("*/[!.]*.npz")):
            time.sleep(0.001)
    finally:
        process.kill()
        assert process.wait() == -9, "it had already ended"
    assert not (output / "training.json").exists()
    before = {path: path.stat().st_mtime_ns for path in features.glob("*/[!.]*.npz")}
    assert before

    subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=given(tmp_path), check=True)
    after = {path: path.stat().st_mtime_ns for path in features.glob("*/[!.]*.npz")}
    assert before.items() < after.items()
    learn(backbone(model), dataset, tmp_path / "undisturbed" / "out")
    killed, whole = (load_file(one / "model.safetensors") for one in (output, tmp_path / "undisturbed" / "out"))
    for name, weights in whole.items():
        torch.testing.assert_close(killed[name], weights, atol=1e-2, rtol=1e-3)


def given(folder: Path) -> dict[str, str]:
    return environment() | {"FAKESWEEP_MODEL_CACHE": str(folder / "cache")}
