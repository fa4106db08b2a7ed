"""The command that trains a detector."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from producers.commands.options import environment
from producers.commands.training_parts import Training, fine_tune, is_first, learn_head
from worker.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from worker.lab.datasets.faults import Faults

app = typer.Typer()

_LAUNCHER = ("RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "ACCELERATE_", "FSDP_")
"""How the variables of `accelerate launch` for its processes begin. The evaluation must not get them."""
_BASE = {"FAKESWEEP_DETECTOR", "FAKESWEEP_MODEL", "FAKESWEEP_REVISION"}
"""Variables that may name the model that training began with."""
_WORDS = {"FAKESWEEP_PROMPT", "FAKESWEEP_QUANTIZATION", "FAKESWEEP_KV_CACHE_DTYPE"}
"""Variables for a language model. A head is none, and would refuse them."""


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="FakeClue-format .json or .jsonl, or a folder.")],
    output: Annotated[
        Path,
        typer.Option(
            file_okay=False, help="The folder of the trained detector. If it was begun, the training continues."
        ),
    ],
    images: Annotated[
        str | None, typer.Option(help="A folder or s3://bucket/prefix. Default: the folder of DATASET.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="The detector to start from. Default: FAKESWEEP_DETECTOR.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Other weights than the detector's own. For a head without --detector: your own backbone."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="full (FakeVLM's own), lora, head, or a .toml file.")] = "full",
    name: Annotated[str | None, typer.Option(help="The detector's new name. Default: the folder's name.")] = None,
    seed: Annotated[int, typer.Option(help="Decides the order of the images and all random choices.")] = 0,
    hold_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="The share of the images that is kept for the evaluation.")
    ] = 0.05,
    evaluate: Annotated[
        Path | None, typer.Option(exists=True, help="Another dataset to evaluate on, with its images beside it.")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            help="How often all images are learned. This option and the next three change a recipe with one stage."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="How many steps to learn, instead of --epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="A value in place of the recipe's learning_rate.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="A value in place of the recipe's batch_size: images per step.")
    ] = None,
    robust: Annotated[
        bool,
        typer.Option(
            "--robust",
            help="With --recipe head: also learn from compressed, resized and blurred copies of each image.",
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first fault of the dataset.")] = False,
) -> None:
    """Train a detector on labelled images, evaluate it, and leave a folder that the worker serves."""
    from worker import telemetry
    from worker.lab.datasets.faults import Faults

    given = {"epochs": epochs, "steps": steps, "learning_rate": learning_rate, "batch_size": batch_size}
    name = _checked_name(name or output.resolve().name)
    settings = environment()
    own = {"detector": detector or settings.detector, "model": model or settings.model}
    settings = settings.model_copy(update=own)
    telemetry.configure_logging(settings)
    try:
        import worker.lab.training.train  # noqa: F401 - it needs all packages of training
        from worker.lab.training.claim import HELD_OUT
        from worker.lab.training.recipe import HeadRecipe, load_recipe
    except ImportError as error:
        raise ConfigurationError(f"fakesweep train: {error}; install fakesweep[train]") from None
    changes = {option: value for option, value in given.items() if value is not None}
    chosen = load_recipe(recipe, changes, robust=robust)
    faults = Faults(strict=strict)
    images = images or str(dataset if dataset.is_dir() else dataset.parent)
    training = Training(dataset, images, name, output, seed, hold_out, settings, faults)
    if isinstance(chosen, HeadRecipe):
        trained = learn_head(training, chosen, backbone=bool(model and not detector))
    else:
        trained = fine_tune(training, chosen)
    if not is_first():
        return
    if trained:
        _keep(faults, output)
    held_out = output / HELD_OUT
    dropped = _BASE | (_WORDS if isinstance(chosen, HeadRecipe) else set())
    options = ["--robustness"] if isinstance(chosen, HeadRecipe) and chosen.augment else []
    if evaluate:
        _evaluate(output, [str(evaluate), *options], dropped)
    elif json.loads(held_out.read_text(encoding="utf-8")):
        _evaluate(output, [str(held_out), "--images", images, *options], dropped)
    typer.echo(f"{output} is trained, and not evaluated: nothing was held out", err=True)


def _checked_name(name: str) -> str:
    if not 0 < len(name) <= 100:  # noqa: PLR2004 - as a description has it
        raise UsageError(f"--name: a detector's name has 1 to 100 characters, not {len(name)}")
    return name


def _keep(faults: "Faults", output: Path) -> None:
    from producers.reporting import progress
    from worker.lab.datasets.faults import FAULTS, write_faults

    write_faults(faults, output / FAULTS)
    if faults:
        counted = ", ".join(f"{count} {cause}" for cause, count in faults.causes.items())
        progress.say(f"{len(faults)} not used ({counted}); all of them are named in {output / FAULTS}")


def _evaluate(output: Path, dataset: list[str], dropped: set[str]) -> NoReturn:
    """Becomes `fakesweep evaluate`: the trainer's memory on the GPU is free only when its process has ended."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHER) and name not in dropped}
    command = ["-m", "producers", "evaluate", *dataset]
    command += ["--detector", str(output), "--output", str(output / "evaluation")]
    typer.echo(f"{output} is trained; now: fakesweep {shlex.join(command[2:])}", err=True)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *command], kept)  # noqa: S606 - no shell
