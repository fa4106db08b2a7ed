"""Draws images and learns the demo's head on the tower of the demo detector: the same seed gives the same head.

    python -m deploy.demo.head build/head --count 1000 --seed 3

writes ``build/head/images``, ``build/head/records.json``, and the detector ``build/head/detector``. An interrupted run
continues.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.demo.answers import FAMILIES
from deploy.demo.draw import draw_set
from producers.reporting.progress import shown
from worker.lab.datasets.digest import digest
from worker.lab.datasets.faults import Faults, read_records
from worker.lab.training.head.base import base_of_detector
from worker.lab.training.head.train import HeadJob, train_head
from worker.lab.training.recipe import HeadRecipe, load_recipe
from worker.lab.training.squares import ImageSource
from worker.settings import Settings
from worker.storage import open_stores

DEMO = Path(__file__).parent
NAME = "demo-head"


def learn_demo_head(
    folder: Path,
    *,
    count: int = 1000,
    seed: int = 3,
    detector: Path = DEMO / "detector",
    families: Sequence[str] = FAMILIES,
    layer: int | None = None,
    advance: Callable[[int, int], None] = lambda _done, _of: None,
) -> Path:
    """Returns the folder of the head, which a worker can serve. Draws ``count`` images first, if the folder has none.
    So each set of drawings needs a folder of its own.

    A twentieth of them is held out, and listed in ``held-out.json``. Seeds of sets that are compared with it must
    differ from ``seed``. The fakes are of these ``families``. ``layer`` replaces that of head.toml. The features are in
    ``folder/features``.
    """
    records = folder / "records.json"
    if not records.exists():
        draw_set(folder, count, seed, families)
    settings = Settings(detector=str(detector))
    base, recipe = base_of_detector(settings), load_recipe(str(DEMO / "head.toml"))
    assert isinstance(recipe, HeadRecipe)
    if layer is not None:
        recipe = recipe.model_copy(update={"layer": layer})
    faults = Faults(strict=True)  # drawings have none
    found = read_records(records, faults)
    content = digest(records, [one.image for one in found])
    job = HeadJob(recipe, base, NAME, folder / "detector", content, folder / "features", seed=seed)
    source = ImageSource(open_stores(settings), str(folder), base.description.preprocessing)
    train_head(job, found, source, faults.add, advance)
    return job.output


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draws images and learns a head on the demo detector's tower.")
    parser.add_argument("out", type=Path, help="the folder for the images, the features and the detector")
    parser.add_argument("--count", type=int, default=1000, help="how many images; every second one is camera-like")
    parser.add_argument("--seed", type=int, default=3, help="decides the drawings, the held-out images and the folds")
    options = parser.parse_args()
    with shown("the tower has seen", total=None) as advance:
        detector = learn_demo_head(options.out, count=options.count, seed=options.seed, advance=advance)
    sys.stdout.write(f"{detector}\n")


if __name__ == "__main__":
    main()
