"""The two kinds of training: a language model by its stages, and a head on a tower."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.detector.description import Preprocessing
    from worker.lab.datasets.faults import Faults
    from worker.lab.datasets.records import Fault, Record
    from worker.lab.training.recipe import HeadRecipe, Recipe
    from worker.lab.training.squares import ImageSource
    from worker.settings import Settings


@dataclass(frozen=True)
class Training:
    """What the options of `fakesweep train` say, whatever is trained."""

    dataset: Path
    images: str
    name: str
    output: Path
    seed: int
    hold_out: float
    settings: "Settings"
    faults: "Faults"

    def teller(self) -> "Callable[[Fault], None]":
        """Returns what is called with each record that cannot be used: it is kept, and the first ones are printed."""
        from producers.reporting.progress import Warnings

        warn = Warnings()

        def tell(fault: "Fault") -> None:
            self.faults.add(fault)
            if is_first():
                warn(str(fault))

        for fault in self.faults if is_first() else ():
            warn(str(fault))
        return tell

    def records(self) -> "tuple[list[Record], str]":
        """Returns the usable records, and the dataset's SHA-256."""
        from worker.lab.datasets.digest import digest
        from worker.lab.datasets.faults import read_records

        records = read_records(self.dataset, self.faults)
        return records, digest(self.dataset, [one.image for one in records])

    def source(self, form: "Preprocessing") -> "ImageSource":
        """Returns where the images are."""
        from worker.images import SizeLimits
        from worker.lab.training.squares import ImageSource
        from worker.storage import open_stores

        limits = SizeLimits(self.settings.max_pixels, self.settings.min_edge)
        return ImageSource(open_stores(self.settings), self.images, form, limits)


def fine_tune(training: Training, recipe: "Recipe") -> bool:
    """Trains a language model. Returns False if the training had ended before."""
    from worker.detector.description import vlm_only
    from worker.detector.loading import load_description
    from worker.detector.supply import supply
    from worker.lab.training.train import Job, train

    settings = training.settings
    description, base = supply(vlm_only(load_description(settings), "training with this recipe"), settings)
    records, content = training.records()
    job = Job(
        recipe, description, base, training.name, training.output, content, seed=training.seed,
        hold_out=training.hold_out, weights_are_spread=_weights_are_spread(),
    )  # fmt: skip
    return train(job, records, training.source(description.preprocessing), training.teller())


def learn_head(training: Training, recipe: "HeadRecipe", *, backbone: bool) -> bool:
    """Learns a head on the settings' detector, or on their model if it is a `backbone` of one's own.

    Returns False if the training had ended before. Raises ConfigurationError under a launcher of several processes.
    """
    from producers.reporting.progress import shown
    from worker.lab.training.head.base import base_of_backbone, base_of_detector
    from worker.lab.training.head.train import HeadJob, train_head

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError("--recipe head: one process learns a head; run the command without a launcher")
    settings = training.settings
    base = base_of_backbone(settings) if backbone else base_of_detector(settings)
    records, content = training.records()
    job = HeadJob(
        recipe, base, training.name, training.output, content, settings.model_cache.expanduser() / "features",
        seed=training.seed, hold_out=training.hold_out,
    )  # fmt: skip
    source = training.source(base.description.preprocessing)
    with shown("the tower has seen", total=None) as advance:
        return train_head(job, records, source, training.teller(), advance)


def is_first() -> bool:
    """Whether this process is the only one, of those that `accelerate launch` starts, that prints."""
    return os.environ.get("RANK", "0") == "0"


def _weights_are_spread() -> bool:
    """Whether `accelerate launch` spreads the weights over the GPUs: FSDP, or DeepSpeed's ZeRO stage 3."""
    told = os.environ.get
    return told("ACCELERATE_USE_FSDP") == "true" or told("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"
