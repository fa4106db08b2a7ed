"""Training in two processes, as `accelerate launch` starts them, and the configurations that are shipped for GPUs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file

from deploy.demo.checkpoint import make_model
from deploy.demo.vocabulary import make_tokenizer
from tests.processes import ROOT
from tests.training import command, described, environment, train_in_process, weights, write_base, write_images
from worker.detector.transformers_engine import TransformersEngine
from worker.lab.training.recipe import Stage

CONFIGURATIONS = ROOT / "deploy" / "training"
RECIPE = """\
save_steps = 1
[[stages]]
crop = 56
steps = 2
batch_size = 2
learning_rate = 1e-3
"""


@pytest.mark.timeout(600)
def test_two_processes_leave_one_detector_and_one_evaluation(tmp_path: Path) -> None:
    """Two processes with batches of two learn what one process learns with batches of four."""
    dataset, base = write_images(tmp_path / "set", 12), write_base(tmp_path / "base")
    (tmp_path / "set" / json.loads(dataset.read_text())[0]["image"]).unlink()
    (tmp_path / "two.toml").write_text(RECIPE)
    output = tmp_path / "two"
    launched = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    options = ("--hold-out", "0.3", "--seed", "1")
    given = {"ACCELERATE_USE_CPU": "true", "FAKESWEEP_MODEL": str(base)}
    told = run([*launched, *command(base, dataset, output, tmp_path / "two.toml", *options)], given)
    description, folder = described(output)
    assert (
        json.loads((output / "evaluation" / "run.json").read_text())["detector"]["fingerprint"]
        == description.fingerprint
    )
    TransformersEngine(description, folder).close()
    assert json.loads((output / "training.json").read_text())["processes"] == 2
    assert told.count("line 2: missing_image: ") == 1
    held_out = [one["image"] for one in json.loads((output / "held-out.json").read_text())]
    judged = [
        json.loads(line)["image"] for line in (output / "evaluation" / "predictions.jsonl").read_text().splitlines()
    ]
    assert held_out
    assert sorted(judged) == sorted(held_out)
    assert not (output / ".training").exists()
    single = Stage(crop=56, steps=2, batch_size=4, learning_rate=1e-3)
    train_in_process(base, dataset, tmp_path / "one", single, hold_out=0.3, seed=1)
    start, one, two = weights(base), weights(tmp_path / "one"), weights(output)
    for name in start.keys() - {name for name in start if name.endswith("k_proj.bias")}:  # softmax ignores it
        moved, apart = ((other[name] - two[name]).float().abs().mean() for other in (start, one))
        assert apart <= 0.05 * moved, name


def run(arguments: list[str], given: dict[str, str]) -> str:
    """Runs a process that must succeed. Returns its stderr."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env={**environment(), **given},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.parametrize("name", ["fsdp.yaml", "deepspeed.yaml"])
def test_accelerate_reads_the_shipped_configurations(name: str) -> None:
    config = load_config_from_file(str(CONFIGURATIONS / name))
    assert (config.num_processes, config.mixed_precision) == (8, "bf16")
    assert str(config.distributed_type).rpartition(".")[2] == name.removesuffix(".yaml").upper()


def test_the_layers_that_fsdp_wraps_are_those_of_a_llava() -> None:
    config = load_config_from_file(str(CONFIGURATIONS / "fsdp.yaml"))
    named = set(config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(","))
    with torch.device("meta"):
        model = make_model(make_tokenizer(), 0)
    assert named <= {type(module).__name__ for module in model.modules()}
    assert config.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"  # otherwise no complete weights are saved
