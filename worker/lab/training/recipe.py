"""Reads a recipe file, which says how a detector is trained: FakeVLM's own recipe, LoRA, a head, or one of yours."""

import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from worker.errors import ConfigurationError
from worker.files import read_text
from worker.lab.evaluation.perturbations import CLEAN, PERTURBATIONS
from worker.wording import worded

RECIPES = Path(__file__).parent / "recipes"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(StrEnum):
    """The three parts of a LLaVA. The language model's head belongs to the language model."""

    VISION_TOWER = "vision_tower"
    PROJECTOR = "projector"
    LANGUAGE_MODEL = "language_model"


class Lora(_Section):
    """Low-rank adapters (Hu et al. 2021) on the linear layers of the language model, merged into it at the end.

    If a stage names the projector or the tower, these are trained in full, because they are small.
    """

    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[int, Field(ge=1)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Stage(_Section):
    """One run over the data. `epochs` or `steps` say how long. `batch_size` is in images per process.

    `classes` names a field of the records whose values the tower learns to tell apart, as a head start for a new tower.
    Without it, the model learns to answer. `crop`: instead of whole images, learn from random squares of this side in
    pixels, mirrored at random. This is cheaper, and works if what matters is everywhere in an image. `warmup` is the
    share of all steps in which the learning rate rises, before it falls as a cosine. `max_length` is in tokens, the
    image's included; a longer answer is cut.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = "fine-tune"
    train: Annotated[tuple[Part, ...], Field(min_length=1)] = tuple(Part)
    classes: str | None = None
    crop: Annotated[int, Field(ge=14)] | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] = 32
    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: Annotated[int, Field(ge=64)] = 1024
    gradient_checkpointing: bool = False
    lora: Lora | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        if self.classes is not None and self.train != (Part.VISION_TOWER,):
            raise ValueError('classes are for the tower alone: train = ["vision_tower"]')
        if self.lora and Part.LANGUAGE_MODEL not in self.train:
            raise ValueError("lora adapts the language model: train must name it")
        return self


class Recipe(_Section):
    """The stages, in order. A checkpoint is written every `save_steps` steps of a stage, and at its end."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    save_steps: Annotated[int, Field(ge=1)] = 200

    @field_validator("stages")
    @classmethod
    def _named_once(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        if len({stage.name for stage in stages}) < len(stages):
            raise ValueError("two stages have the same name")
        return stages


class HeadRecipe(_Section):
    """A linear head on a vision tower that does not change: a classifier, in minutes.

    `layer` is the hidden state of the tower that is read, as LLaVA counts them: 0 are the embeddings, -1 is the last
    layer. Without it, it is the layer that a LLaVA's projector reads, and the last one of any other model. `augment`
    names changes of worker.lab.evaluation.perturbations, or is "all": each image is also learned under `copies` of
    them, which its content chooses. `inverse_regularisation` are the values of scikit-learn's C among which `folds`
    folds of the images choose by the log loss. `batch_size` is how many images the tower takes at once, and `dtype` its
    number format, in training and in the detector.
    """

    kind: Literal["head"] = "head"
    layer: int | None = None
    augment: tuple[str, ...] = ()
    copies: Annotated[int, Field(ge=1)] = 4
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    inverse_regularisation: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (
        1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0,
    )  # fmt: skip
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 32
    dtype: Literal["float16", "bfloat16", "float32"] = "float32"

    @field_validator("augment", mode="before")
    @classmethod
    def _known(cls, augment: object) -> object:
        known = [name for name in PERTURBATIONS if name != CLEAN]
        if augment == "all":
            return known
        if isinstance(augment, str) or (isinstance(augment, list | tuple) and set(augment) - set(known)):
            raise ValueError(f'must be "all" or a list of {", ".join(known)}')
        return augment


def load_recipe(name: str, changes: dict[str, Any] | None = None, *, robust: bool = False) -> Recipe | HeadRecipe:
    """Loads a shipped recipe (full, lora, head) or a .toml file. `changes` override values of its only stage.

    `robust` makes a head learn from all changes of an image. Raises ConfigurationError if there is no such recipe, if
    an option does not belong to it, or with the first fault in it.
    """
    path = RECIPES / f"{name}.toml" if "/" not in name and (RECIPES / f"{name}.toml").is_file() else Path(name)
    try:
        content = tomllib.loads(read_text(path))
    except OSError:
        shipped = ", ".join(sorted(one.stem for one in RECIPES.glob("*.toml")))
        raise ConfigurationError(f"--recipe: {name!r} is neither one of {shipped} nor a .toml file") from None
    except ValueError as error:
        raise ConfigurationError(f"--recipe: {path} is not TOML: {error}") from None
    is_head = content.get("kind") == "head"
    if is_head and changes:
        options = ", ".join(f"--{option.replace('_', '-')}" for option in changes)
        raise ConfigurationError(f"{options}: {path.stem} learns a head, which has no such option; change the recipe")
    if robust and not is_head:
        raise ConfigurationError(f"--robust: {path.stem} is no recipe of a head; give --recipe head")
    if robust:
        content["augment"] = "all"
    if changes:
        _change(content, changes, path)
    try:
        return (HeadRecipe if is_head else Recipe).model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "whole file"
        raise ConfigurationError(f"--recipe: {path}: {where}: {worded(fault)}") from None


def _change(content: dict[str, Any], changes: dict[str, Any], path: Path) -> None:
    """Applies the options to the only stage. Raises ConfigurationError if there is not exactly one."""
    stages = content.get("stages")
    if not isinstance(stages, list) or len(stages) != 1 or not isinstance(stages[0], dict):
        raise ConfigurationError(
            f"--recipe: {path} has not exactly one stage; change the values in the file, and leave out the options"
        )
    stages[0] = _changed(stages[0], changes)


def _changed(stage: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Applies the options. One for the length replaces both lengths of the file."""
    lengths = {"epochs", "steps"}
    kept = {name: value for name, value in stage.items() if not (lengths & changes.keys() and name in lengths)}
    return kept | changes
