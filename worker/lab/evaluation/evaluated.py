"""Reads the output of `fakesweep evaluate` to calibrate or compare: the predictions, and which detector made them."""

import hashlib
import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import ConfigurationError, ImageError
from worker.files import local_path
from worker.lab.datasets.images import image_ref
from worker.lab.evaluation.journal import RUN, read_predictions
from worker.lab.evaluation.perturbations import CLEAN
from worker.lab.evaluation.predictions import Prediction

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]


@dataclass(frozen=True)
class Evaluated:
    """The predictions of unchanged images, in the order of the file.

    `perturbed` counts predictions of changed images, which are left out. The other fields are from the evaluation's
    run.json, and None if there is none: `detector` has the columns of `detectors` and the `fingerprint`; `dataset`
    is its SHA-256, and `dataset_name` the name of its file or folder; `images` is the folder or s3://bucket/prefix
    under which the images are; `explain` says for which images reasons were asked; `trained_on` has the SHA-256 of the
    datasets that the detector was trained on, as far as that is known.
    """

    name: str
    predictions: tuple[Prediction, ...]
    perturbed: int = 0
    detector: dict[str, Any] | None = None
    dataset: str | None = None
    images: str | None = None
    explain: str | None = None
    dataset_name: str | None = None
    trained_on: tuple[str, ...] = ()

    @cached_property
    def log_odds(self) -> Floats:
        """log P(fake) - log P(real) in nats, of the shape (images,). NaN if the detector was undecided."""
        return np.array([np.nan if one.log_odds is None else one.log_odds for one in self.predictions])

    @cached_property
    def is_fake(self) -> Truths:
        """The labels, of the shape (images,)."""
        return np.array([one.is_fake for one in self.predictions], dtype=np.bool_)

    @cached_property
    def decided(self) -> Truths:
        """Which images have log-odds, of the shape (images,)."""
        return ~np.isnan(self.log_odds)


def address(prediction: Prediction, images: str | None) -> str:
    """Returns one spelling of the image's place: a local path, or the uri. Returns its name if `images` is None."""
    whole = prediction.image.startswith(("s3://", "file:///"))
    if images is None and not whole:
        return prediction.image
    try:
        uri = image_ref(prediction.image, images or "").uri
    except ImageError:  # no evaluation wrote this
        return prediction.image
    return posixpath.normpath(local_path(uri)) if uri.startswith("file:") else uri


def read_evaluated(path: Path) -> Evaluated:
    """Reads the output of an evaluation: its folder, or the predictions.jsonl in it.

    Raises ConfigurationError if it cannot be read, and like evaluated_of().
    """
    return evaluated_of(path, read_predictions(path))


def evaluated_of(path: Path, predictions: Sequence[Prediction]) -> Evaluated:
    """Returns the evaluation with these predictions, which are those at `path`.

    Raises ConfigurationError if it has no prediction of an unchanged image, or two of one image.
    """
    clean = tuple(one for one in predictions if one.perturbation == CLEAN)
    if not clean:
        raise ConfigurationError(f"{path} holds no predictions of unchanged images: evaluate the dataset without them")
    image, count = Counter(one.image for one in clean).most_common(1)[0]
    if count > 1:
        raise ConfigurationError(f"{path} holds {count} predictions of {image}; evaluate again, into another folder")
    return Evaluated(str(path), clean, len(predictions) - len(clean), **_run(path))


def _run(path: Path) -> dict[str, Any]:
    file = (path if path.is_dir() else path.parent) / RUN
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        dataset = run["dataset"]
        return {"detector": run["detector"], "dataset": dataset["sha256"], "dataset_name": dataset.get("name"),
                "images": run["images"], "explain": run.get("explain"),
                "trained_on": tuple(run.get("trained_on", ()))}  # fmt: skip
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{file} is not what evaluate writes ({error!r}); evaluate into another folder"
        ) from None


def distinct(evaluated: Evaluated) -> Evaluated:
    """Returns the evaluation with one prediction of each content and label.

    A prediction without a hash of its content is told from others by its name.
    """
    seen: set[tuple[str, bool]] = set()
    chosen = []
    for one in evaluated.predictions:
        mark = (one.sha256 or one.image, one.is_fake)
        chosen.append(mark not in seen)
        seen.add(mark)
    return _part(evaluated, chosen, evaluated.name)


def split(evaluated: Evaluated, share: float, seed: int) -> tuple[Evaluated, Evaluated]:
    """Splits an evaluation in two, the first part with about `share` of the images.

    A hash of `seed` and the image's content decides. So the same content is always in the same part, under every name
    and in every evaluation of it. For predictions without a hash of their content, the image's name decides.
    """
    first = [_drawn(one.sha256 or one.image, seed) < share for one in evaluated.predictions]
    return (
        _part(evaluated, first, f"{evaluated.name} (split {share}, seed {seed})"),
        _part(evaluated, [not one for one in first], f"the rest of {evaluated.name}"),
    )


def _drawn(content: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}\0{content}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _part(evaluated: Evaluated, chosen: Iterable[bool], name: str) -> Evaluated:
    predictions = tuple(one for one, ours in zip(evaluated.predictions, chosen, strict=True) if ours)
    return replace(evaluated, name=name, predictions=predictions)
