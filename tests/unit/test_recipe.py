"""Recipes: the shipped ones, files, options, and the error for each fault."""

from pathlib import Path
from typing import Any

import pytest

from worker.errors import ConfigurationError
from worker.lab.evaluation.perturbations import CLEAN, PERTURBATIONS
from worker.lab.training.recipe import HeadRecipe, Lora, Part, Recipe, Stage, load_recipe

STAGE = '[[stages]]\nname = "one"\n'


def written(folder: Path, text: str) -> str:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def staged(name: str, changes: dict[str, Any] | None = None) -> tuple[Stage, ...]:
    recipe = load_recipe(name, changes)
    assert isinstance(recipe, Recipe)
    return recipe.stages


def test_the_full_recipe_is_that_of_the_paper() -> None:
    (stage,) = staged("full")
    assert set(stage.train) == set(Part)
    assert (stage.learning_rate, stage.warmup, stage.weight_decay) == (2e-5, 0.03, 0)
    assert (stage.epochs, stage.steps, stage.max_length) == (2, None, 1024)
    assert (stage.batch_size, stage.gradient_accumulation) == (32, 1)
    assert (stage.lora, stage.classes, stage.crop) == (None, None, None)


def test_lora_has_the_values_of_llavas_recipe_and_the_same_batch_size() -> None:
    (stage,) = staged("lora")
    assert stage.lora == Lora(rank=128, alpha=256)
    assert set(stage.train) == {Part.PROJECTOR, Part.LANGUAGE_MODEL}
    assert stage.batch_size * stage.gradient_accumulation == 32
    assert (stage.epochs, stage.warmup, stage.max_length) == (2, 0.03, 1024)


def test_values_that_a_file_leaves_out_are_those_of_the_paper(tmp_path: Path) -> None:
    (stage,) = staged(written(tmp_path, STAGE + "epochs = 2\n"))
    full = staged("full")[0]
    assert stage == full.model_copy(update={"name": "one", "gradient_checkpointing": False})


def test_options_change_the_only_stage_and_one_length_replaces_the_other() -> None:
    (stage,) = staged("full", {"steps": 5, "learning_rate": 1e-3, "batch_size": 2})
    assert (stage.steps, stage.epochs, stage.learning_rate, stage.batch_size) == (5, None, 1e-3, 2)
    assert stage.warmup == 0.03
    (stage,) = staged("full", {"epochs": 0.5})
    assert (stage.steps, stage.epochs) == (None, 0.5)


def test_a_file_may_have_the_name_of_a_shipped_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full.toml").write_text(STAGE + "steps = 7\n", encoding="utf-8")
    assert staged("full")[0].name == "fine-tune"
    assert staged("./full.toml")[0].steps == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (STAGE, "stages.0: give either epochs or steps"),
        (STAGE + "epochs = 1\nsteps = 1\n", "stages.0: give either epochs or steps"),
        (STAGE + 'steps = 1\nclasses = "cate"\n', "classes are for the tower alone"),
        (STAGE + 'steps = 1\nclasses = "cate"\ntrain = ["vision_tower", "projector"]\n', "classes are for the tower"),
        (STAGE + 'steps = 1\ntrain = ["projector"]\nlora = {}\n', "lora adapts the language model"),
        (STAGE + 'steps = 1\ntrain = ["head"]\n', "stages.0.train.0: must be 'vision_tower', 'projector'"),
        (STAGE + "steps = 1\ntrain = []\n", "stages.0.train: "),
        (STAGE + "steps = 1\n" + STAGE + "steps = 2\n", "stages: two stages have the same name"),
        (STAGE + "steps = 1\nrate = 2\n", "stages.0.rate: is not a known name"),
        (STAGE + "steps = 1\nlearning_rate = 0\n", "stages.0.learning_rate: must be more than 0"),
        ('[[stages]]\nname = "a/b"\nsteps = 1\n', "stages.0.name: "),
        ("stages = []\n", "stages: "),
        ("", "stages: is missing"),
        ("[[stages]\n", "is not TOML: "),
    ],
)
def test_a_fault_in_a_recipe_is_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"--recipe: {path}")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'fulll' is neither one of full, head, lora nor a \.toml file"):
        load_recipe("fulll")


@pytest.mark.parametrize(
    "stages", [STAGE + "steps = 1\n" + STAGE.replace("one", "two") + "steps = 1\n", "stages = [3]\n", ""]
)
def test_options_are_for_recipes_of_one_stage(tmp_path: Path, stages: str) -> None:
    path = written(tmp_path, stages)
    with pytest.raises(ConfigurationError, match="exactly one stage; change the values in the file, and leave out"):
        load_recipe(path, {"steps": 2})


def test_the_shipped_head_has_the_defaults_and_learns_from_unchanged_images() -> None:
    assert load_recipe("head") == HeadRecipe()
    assert HeadRecipe().augment == ()


def test_a_robust_head_learns_all_changes_of_the_evaluation() -> None:
    robust = load_recipe("head", robust=True)
    assert isinstance(robust, HeadRecipe)
    assert {CLEAN, *robust.augment} == set(PERTURBATIONS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('augment = ["jpeg_70", "melt"]', 'augment: must be "all" or a list of jpeg_70, jpeg_80'),
        ('augment = "some"', 'augment: must be "all" or a list of jpeg_70, jpeg_80'),
        ('augment = ["clean"]', 'augment: must be "all" or a list of jpeg_70, jpeg_80'),
        ("inverse_regularisation = [0]", "inverse_regularisation.0: must be more than 0"),
        ("folds = 1", "folds: must be 2 or more"),
        ("[[stages]]\nsteps = 1", "stages: "),
    ],
)
def test_faults_of_a_head_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_recipe(written(tmp_path, f'kind = "head"\n{text}\n'))
    assert said in str(refused.value)


def test_options_of_other_recipes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^--epochs, --learning-rate: head learns a head"):
        load_recipe("head", {"epochs": 1, "learning_rate": 0.1})
    with pytest.raises(ConfigurationError, match=r"^--robust: lora is no recipe of a head"):
        load_recipe("lora", robust=True)
