"""The committed demo detector equals its record, so `make detector` can make it again."""

import hashlib
import json
from pathlib import Path

from deploy.demo import checkpoint
from deploy.demo.vocabulary import make_tokenizer
from tests.conftest import DEMO_DETECTOR
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.lab.training.recipe import load_recipe
from worker.settings import Settings

RECORD = json.loads((DEMO_DETECTOR / "training.json").read_text(encoding="utf-8"))


def test_the_recipe_is_that_of_the_record() -> None:
    recipe = load_recipe(str(DEMO_DETECTOR.parent / "recipe.toml"))
    assert json.loads(json.dumps(recipe.model_dump(mode="json", exclude_none=True))) == RECORD["recipe"]


def test_the_untrained_model_can_be_made_again(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    checkpoint.save_checkpoint(checkpoint.make_model(tokenizer, RECORD["seed"]), tokenizer, tmp_path)
    settings = Settings(detector=str(tmp_path), gpu_memory_utilization=0.2)
    description, _ = supply(load_description(settings), settings)
    assert {"name": description.name, "revision": description.revision} == RECORD["base"]


def test_the_weights_are_those_of_the_record() -> None:
    description = load_description(Settings(detector=str(DEMO_DETECTOR)))
    weights = (DEMO_DETECTOR / "model.safetensors").read_bytes()
    assert description.checksums == {"model.safetensors": hashlib.sha256(weights).hexdigest()}


def test_its_training_took_less_than_an_hour() -> None:
    assert sum(stage["seconds"] for stage in RECORD["stages"].values()) < 3600
