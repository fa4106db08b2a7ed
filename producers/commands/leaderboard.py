"""The command that ranks detectors by their evaluations."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from producers.commands.options import Json, needs_extra, print_json, settings_for
from worker.errors import UsageError

app = typer.Typer()


@app.command()
def leaderboard(
    evaluations: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]FOLDER...", help="Outputs of evaluate. NAME replaces the detector's name."),
    ],
    output: Annotated[Path | None, typer.Option(metavar="FILE.html", help="A page with the whole leaderboard.")] = None,
    speed: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=IMAGES/S", help="How many images a second a detector judges. May be repeated."),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(min=0, help="What an hour of the machine costs, for the cost of 1,000 images. Needs --speed."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Rank detectors on several sets: accuracy, ROC AUC, fakes caught; by category, generator and perturbation."""
    from producers.reporting import progress

    settings_for(None)
    speeds = _speeds(speed or [])
    if price is not None and not math.isfinite(price):
        raise UsageError(f"--price {price}: give what an hour of the machine costs, such as 2.5")
    if price is not None and not speeds:
        raise UsageError("--price needs --speed NAME=IMAGES/S: the cost follows from both")
    try:
        from worker.lab.evaluation import leaderboard_page, outputs
        from worker.lab.evaluation.contenders import read_sets, warnings
        from worker.lab.evaluation.leaderboard import rank
    except ImportError as error:
        raise needs_extra("evaluate", error) from error
    if output:
        outputs.check_page(output, "--output")
    sets = read_sets([_named(one) for one in evaluations])
    _check_names(speeds, (one.detector for each in sets for one in each.contenders))
    board = rank(sets, speeds, price)
    if output:
        leaderboard_page.write_leaderboard_page(board, sets, output)
    for warning in warnings(sets):
        progress.say(f"warning: {warning}")
    if as_json:
        print_json(leaderboard_page.as_json(board, sets))
        return
    for line in leaderboard_page.as_lines(board):
        typer.echo(progress.printable(line))


def _named(text: str) -> tuple[str | None, Path]:
    """Divides NAME=FOLDER. A folder whose own name has an equals sign is taken as a folder."""
    name, equals, folder = text.partition("=")
    if not equals or Path(text).exists():
        return None, Path(text)
    if not name.strip() or not folder:
        raise UsageError(f"{text!r}: give FOLDER, or NAME=FOLDER")
    return name.strip(), Path(folder)


def _speeds(texts: Iterable[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            images = float(number)
        except ValueError:
            images = math.nan
        if not name.strip() or not 0 < images < math.inf:
            raise UsageError(f"--speed {text!r}: give NAME=IMAGES/S with a number above 0, such as fakevlm=30")
        if found.setdefault(name.strip(), images) != images:
            raise UsageError(f"--speed: {name.strip()} has two speeds: give one")
    return found


def _check_names(speeds: Iterable[str], detectors: Iterable[str]) -> None:
    known = sorted(set(detectors))
    for name in speeds:
        if name not in known:
            raise UsageError(f"--speed: no detector has the name {name!r}: give one of {', '.join(known)}")
