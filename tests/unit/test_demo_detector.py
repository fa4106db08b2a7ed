"""The committed demo detector is what its record says, so that `make detector` makes it again."""

import hashlib
import json
from pathlib import Path

from deploy.demo import checkpoint
from deploy.demo.vocabulary import make_tokenizer
from tests.conftest import DEMO_DETECTOR
from worker.detector.supply import load_description, supply
from worker.lab.training.recipe import load_recipe
from worker.settings import Settings

RECORD = json.loads((DEMO_DETECTOR / "training.json").read_text(encoding="utf-8"))


def test_the_recipe_is_the_recorded_one() -> None:
    recipe = load_recipe(str(DEMO_DETECTOR.parent / "recipe.toml"))
    assert json.loads(json.dumps(recipe.model_dump(mode="json", exclude_none=True))) == RECORD["recipe"]


def test_what_it_was_trained_from_is_made_again(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    checkpoint.save_checkpoint(checkpoint.make_model(tokenizer, RECORD["seed"]), tokenizer, tmp_path)
    settings = Settings(detector=str(tmp_path), gpu_memory_utilization=0.2)
    description, _ = supply(load_description(settings), settings)
    assert {"name": description.name, "revision": description.revision} == RECORD["base"]


def test_the_weights_are_those_that_were_recorded() -> None:
    description = load_description(Settings(detector=str(DEMO_DETECTOR)))
    weights = (DEMO_DETECTOR / "model.safetensors").read_bytes()
    assert description.checksums == {"model.safetensors": hashlib.sha256(weights).hexdigest()}


def test_it_was_trained_within_the_hour() -> None:
    assert sum(stage["seconds"] for stage in RECORD["stages"].values()) < 3600
