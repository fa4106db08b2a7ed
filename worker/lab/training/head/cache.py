"""Keeps features on the disk, so that a tower sees an image once: also after a kill, and in later trainings.

A folder belongs to one tower and one preprocessing. Each file in it appears as a whole, and is named after the images
that it has. So several trainings can use the folder at once, and a damaged file only costs time.
"""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import structlog

from worker.files import replacing
from worker.lab.training.head.tower import Features

log = structlog.get_logger(__name__)

Key = tuple[str, str]
"""The SHA-256 of a file, and the perturbation under which it was seen."""

FILES_KEPT = 16
"""Files in memory, because images of one data set are near each other: about 1 MB each."""
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)

SAVED_AT_ONCE = 256
"""Images in a file. A kill loses at most so many."""


class FeatureCache:
    """The features of images that one tower has seen. `width` is how many numbers an image has.

    It knows which images are on the disk, and reads the features of those that somebody asks for. So a small training
    does not load what large ones have left.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self._folder = folder
        self._known: dict[Key, Features] = {}
        self._places: dict[Key, tuple[Path, int]] = {}
        self._features = lru_cache(FILES_KEPT)(partial(_features, width=width))
        self._new: list[Key] = []
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("[!.]*.npz")):
            self._find(path)

    def __contains__(self, key: Key) -> bool:
        return key in self._known or self._read(key)

    def __getitem__(self, key: Key) -> Features:
        if key not in self:
            raise KeyError(key)
        return self._known[key]

    def __len__(self) -> int:
        return len(self._known.keys() | self._places.keys())

    @property
    def loaded(self) -> int:
        """The number of images whose features are in memory."""
        return len(self._known)

    def add(self, keys: Sequence[Key], features: Features) -> None:
        """Adds features of the shape (images, width). They are on the disk after SAVED_AT_ONCE images, or a save()."""
        self._known.update(zip(keys, features, strict=True))
        self._new += keys
        if len(self._new) >= SAVED_AT_ONCE:
            self.save()

    def save(self) -> None:
        """Writes what is not on the disk yet. Raises OSError."""
        if not self._new:
            return
        keys = np.array([f"{content} {perturbation}" for content, perturbation in self._new])
        name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]
        content = io.BytesIO()  # a zip file needs to write at its start again, and `replacing` only appends
        np.savez(content, keys=keys, features=np.stack([self._known[key] for key in self._new]))
        with replacing(self._folder / f"{name}.npz", binary=True) as file:
            file.write(content.getbuffer())
        self._new = []

    def _find(self, path: Path) -> None:
        """Notes which images a file has."""
        try:
            with np.load(path, allow_pickle=False) as held:
                keys = held["keys"].tolist()
        except _DAMAGE as error:
            log.warning("features_unreadable", path=str(path), error=str(error))
            return
        for row, key in enumerate(keys):
            content, _, perturbation = key.partition(" ")
            self._places[content, perturbation] = path, row

    def _read(self, key: Key) -> bool:
        """Returns whether the features are on the disk, and loads them if they are."""
        if key not in self._places:
            return False
        path, row = self._places[key]
        try:
            self._known[key] = self._features(path)[row].copy()  # a view would keep the whole file in memory
        except (*_DAMAGE, IndexError) as error:
            log.warning("features_unreadable", path=str(path), error=str(error))
            self._places = {one: place for one, place in self._places.items() if place[0] != path}
            return False
        return True


def _features(path: Path, width: int) -> Features:
    with np.load(path, allow_pickle=False) as held:
        features: Features = held["features"]
    if features.shape[1:] != (width,):
        raise ValueError(f"features of the shape {features.shape}, not {width} for each image")
    return features
