"""Learns a head: show all images to the tower, hold out, fit, publish a classifier for the worker.

Nothing but features is kept of unfinished work: the next run finds them in the cache.
"""

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worker.detector.description import DetectorDescription, VlmDescription
from worker.detector.verdicts import Reader
from worker.lab.datasets.records import Fault, Record
from worker.lab.datasets.splits import Shares, Split, split_of
from worker.lab.training.claim import HELD_OUT, RECORD, WORK, is_finished, one_writer, write_json
from worker.lab.training.head.base import HeadBase
from worker.lab.training.head.cache import FeatureCache
from worker.lab.training.head.fitting import Head, fit_head
from worker.lab.training.head.publishing import publish_head
from worker.lab.training.head.seeing import Changes, changes_of, show_all
from worker.lab.training.head.tower import Tower
from worker.lab.training.recipe import HeadRecipe
from worker.lab.training.squares import ImageSource
from worker.lab.training.usable import agreeing, as_json, check_enough, of_one_label

_PACKAGES = ("torch", "transformers", "scikit-learn")


@dataclass(frozen=True)
class HeadJob:
    """One training of a head. `digest` is the dataset's SHA-256, and `cache` the folder of all features.

    `hold_out` is the share of contents that are not learned from. The SHA-256 of a content and the seed decide.
    """

    recipe: HeadRecipe
    base: HeadBase
    name: str
    output: Path
    digest: str
    cache: Path
    seed: int = 0
    hold_out: float = 0.05

    def run(self) -> dict[str, Any]:
        """Returns what identifies this training."""
        return {
            "dataset": self.digest,
            "base": {"name": self.base.description.name, "revision": self.base.description.revision},
            "recipe": self.recipe.model_dump(mode="json", exclude_none=True),
            "seed": self.seed,
            "hold_out": self.hold_out,
        }

    def is_held_out(self, content: str) -> bool:
        """Whether the content with this SHA-256 is not learned from."""
        shares = Shares(train=1 - self.hold_out, validation=0, test=self.hold_out)
        return split_of(content, shares, self.seed) is Split.TEST

    def changes(self) -> Changes:
        """Returns how each content is learned. What is held out is only checked: the evaluation judges it."""
        chosen = changes_of(self.recipe, self.seed)
        return lambda content: () if self.is_held_out(content) else chosen(content)


def train_head(
    job: HeadJob,
    records: Sequence[Record],
    source: ImageSource,
    tell: Callable[[Fault], None],
    advance: Callable[[int, int], None] = lambda _done, _of: None,
) -> bool:
    """Trains. Returns False if the training had ended before. `tell` is called with unusable records, and may raise.

    `advance` is called with the number of records that the tower has seen, and of all. Raises ConfigurationError if the
    model has no tower that fits, if the output holds something else, or if no records are left to learn from.
    """
    records = list(agreeing(records, _reader(job.base.description), tell))
    check_enough(records)
    with one_writer(job.output):
        if is_finished(job.output, job.run(), 1):
            shutil.rmtree(job.output / WORK, ignore_errors=True)  # an earlier run ended just before its last line
            return False
        _learn(job, records, source, tell, advance)
    return True


def _learn(
    job: HeadJob,
    records: Sequence[Record],
    source: ImageSource,
    tell: Callable[[Fault], None],
    advance: Callable[[int, int], None],
) -> None:
    """Learns the head and publishes it. This process has the output folder alone."""
    began = time.monotonic()
    description = job.base.described(job.recipe, job.name)
    tower = Tower(job.base.folder, description, job.recipe.layer)
    cache = FeatureCache(job.cache / tower.key, tower.width)
    contents = show_all(
        records, source, tower, cache, job.changes(), batch_size=job.recipe.batch_size, tell=tell, advance=advance
    )
    seen = time.monotonic()
    kept = of_one_label(records, contents, tell)
    learned = [row for row in kept if not job.is_held_out(contents[row] or "")]
    held_out = [records[row] for row in kept if job.is_held_out(contents[row] or "")]
    check_enough([records[row] for row in learned])
    head = _fit(job, [(contents[row] or "", records[row].is_fake) for row in learned], cache)
    seconds = {"tower": round(seen - began, 1), "fit": round(time.monotonic() - seen, 1)}
    publish_head(tower, head, description, job.base.folder, job.output)
    write_json(job.output / HELD_OUT, [as_json(one) for one in held_out])
    circumstances = _circumstances(tower, head, len(learned), len(held_out)) | {"seconds": seconds}
    write_json(job.output / RECORD, job.run() | circumstances)
    shutil.rmtree(job.output / WORK)


def _reader(base: DetectorDescription) -> Reader:
    """Returns what reads the answers of records: as the base words them, or as FakeClue does (the defaults)."""
    fakeclue = VlmDescription(name="FakeClue", model="-", prompt="-", prompts={"-": "<image>"})
    return Reader(base if isinstance(base, VlmDescription) else fakeclue)


def _fit(job: HeadJob, learned: Sequence[tuple[str, bool]], cache: FeatureCache) -> Head:
    """Fits the head. `learned` are the contents and whether they are fake."""
    changes = job.changes()
    rows = [(content, change, fake) for content, fake in learned for change in changes(content)]
    features = np.stack([cache[content, change] for content, change, _ in rows])
    is_fake = np.array([fake for _, _, fake in rows])
    return fit_head(features, is_fake, [content for content, _, _ in rows], job.recipe, job.seed)


def _circumstances(tower: Tower, head: Head, learned: int, held_out: int) -> dict[str, Any]:
    on_gpu = torch.cuda.is_available()
    return {
        "images": learned,
        "held_out_images": held_out,
        "processes": 1,
        "layer": tower.layer,
        "features": {"width": tower.width, "tower": tower.checksum},
        "inverse_regularisation": head.chosen,
        "log_loss": {f"{value:g}": round(loss, 5) for value, loss in head.log_losses.items()},
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
