"""A training that is killed again and again leaves the same bytes as a training that is never killed."""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from transformers import TrainerState, TrainingArguments

from tests.processes import ROOT
from tests.training import command, environment, write_base, write_images
from worker.lab.training.resuming import KeepNewest, last_complete_checkpoint

SEED = int(os.environ.get("KILL_SEED", "20"))
KILLS = 4
RECIPE = """\
save_steps = 1
[[stages]]
name = "classes"
train = ["vision_tower"]
classes = "family"
crop = 56
steps = 2
batch_size = 4
learning_rate = 1e-3
[[stages]]
name = "answers"
crop = 56
steps = 3
batch_size = 4
learning_rate = 1e-3
[[stages]]
name = "lora"
train = ["projector", "language_model"]
crop = 56
steps = 2
batch_size = 4
learning_rate = 1e-3
lora = { rank = 2, dropout = 0.2 }
"""


@pytest.mark.timeout(900)
def test_a_killed_training_ends_with_the_same_detector_and_the_same_predictions(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"KILL_SEED={SEED}")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    dataset = write_images(tmp_path / "set", 20)
    base = write_base(tmp_path / "base")
    undisturbed, killed = tmp_path / "undisturbed" / "detector", tmp_path / "killed" / "detector"
    given = [
        command(base, dataset, one, tmp_path / "recipe.toml", "--hold-out", "0.2") for one in (undisturbed, killed)
    ]
    run_to_its_end(given[0], tmp_path / "undisturbed.log")
    damaged = []
    for _ in range(KILLS):
        assert kill_after(given[1], chance.randint(2, 24), killed, tmp_path / "killed.log"), "it had already ended"
        damaged.append(damage_newest_checkpoint(killed, chance))
    print(f"damaged: {damaged}")
    assert any(damaged), "no training had a checkpoint when it was killed"
    run_to_its_end(given[1], tmp_path / "killed.log")

    for name in ("model.safetensors", "held-out.json", "detector.toml", "config.json"):
        assert digest(killed / name) == digest(undisturbed / name), f"{name}: {(tmp_path / 'killed.log').read_text()}"
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in undisturbed.iterdir())
    predictions = [(one / "evaluation" / "predictions.jsonl").read_text().splitlines() for one in (undisturbed, killed)]
    assert sorted(predictions[0]) == sorted(predictions[1])
    images = Counter(json.loads(line)["image"] for line in predictions[1])
    held_out = json.loads((killed / "held-out.json").read_text())
    assert images == Counter(one["image"] for one in held_out)
    assert set(images.values()) == {1}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_to_its_end(arguments: list[str], log: Path) -> None:
    with log.open("ab") as file:
        code = subprocess.call(
            [sys.executable, "-m", *arguments], cwd=ROOT, stdout=file, stderr=file, env=environment()
        )
    assert code == 0, log.read_text(errors="replace")[-3000:]


def kill_after(arguments: list[str], changes: int, output: Path, log: Path) -> bool:
    """Starts the training and kills it when it has written this many new files. Returns whether it was running then."""
    before = files(output)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=ROOT, stdout=file, stderr=file, env=environment()
        )
    seen: set[Path] = set()
    try:
        while process.poll() is None and len(seen) < changes:
            seen |= files(output) - before
            time.sleep(0.001)
    finally:
        process.kill()
        code = process.wait()
    print(f"killed after {len(seen)} files, the last of which {sorted(map(str, files(output) - before))[-1:]}")
    return code == -9


def files(folder: Path) -> set[Path]:
    """Every file in the folder, in which files may appear and disappear at the same time."""
    return {Path(parent, name) for parent, _, names in os.walk(folder) for name in names}


def damage_newest_checkpoint(output: Path, chance: random.Random) -> str | None:
    """Damages the newest checkpoint as a kill during its writing would: one file is half, and the last one missing."""
    newest = max((output / ".training").glob("*/checkpoint-*"), key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        return None
    (newest / "trainer_state.json").unlink(missing_ok=True)
    half = chance.choice(sorted(newest.iterdir()))
    os.truncate(half, half.stat().st_size // 2)
    return f"{newest.parent.name}/{newest.name}/{half.name}"


def test_an_incomplete_checkpoint_is_skipped(tmp_path: Path) -> None:
    for number, state in ((2, "{}"), (9, "{}"), (10, '{"half": '), (11, None)):
        checkpoint = tmp_path / f"checkpoint-{number}"
        checkpoint.mkdir()
        if state is not None:
            (checkpoint / "trainer_state.json").write_text(state)
    newest = last_complete_checkpoint(tmp_path)
    assert newest == tmp_path / "checkpoint-9"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-9"]
    shutil.rmtree(newest)
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert last_complete_checkpoint(tmp_path / "none") is None


def test_a_removal_that_is_killed_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    for number in (9, 10, 11):
        (tmp_path / f"checkpoint-{number}").mkdir()
        (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text("{}")
    for number in range(20_000):
        (tmp_path / "checkpoint-9" / f"{number}").touch()
    removal = multiprocessing.get_context("fork").Process(target=remove_old_checkpoints, args=(tmp_path,))
    removal.start()
    while len(list((tmp_path / "checkpoint-9").iterdir())) > 20_000:
        time.sleep(0.001)
    removal.kill()
    removal.join()
    assert (tmp_path / "checkpoint-9").exists(), "the removal had already ended"
    whole = sorted(path.parent.name for path in tmp_path.glob("*/trainer_state.json"))
    assert whole == ["checkpoint-10", "checkpoint-11"]


def remove_old_checkpoints(folder: Path) -> None:
    KeepNewest().on_save(TrainingArguments(output_dir=str(folder), report_to="none", use_cpu=True), TrainerState())
