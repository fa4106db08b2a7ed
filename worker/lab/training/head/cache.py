"""Keeps features on the disk, so that a tower sees an image once: also after a kill, and in later trainings.

A folder belongs to one tower and one preprocessing. Each file in it appears as a whole, and is named after the images
that it has. So several trainings can use the folder at once, and a damaged file only costs time.
"""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog

from worker.files import replacing
from worker.lab.training.head.tower import Features

log = structlog.get_logger(__name__)

Key = tuple[str, str]
"""The SHA-256 of a file, and the perturbation under which it was seen."""

SAVED_AT_ONCE = 256
"""Images in a file. A kill loses at most so many."""


class FeatureCache:
    """The features of images that one tower has seen. `width` is how many numbers an image has."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder = folder
        self._known: dict[Key, Features] = {}
        self._new: list[Key] = []
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("[!.]*.npz")):
            self._read(path, width)

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    def __getitem__(self, key: Key) -> Features:
        return self._known[key]

    def __len__(self) -> int:
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

    def _read(self, path: Path, width: int) -> None:
        try:
            keys, features = _content(path, width)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning("features_unreadable", path=str(path), error=str(error))
            return
        for key, row in zip(keys, features, strict=True):
            content, _, perturbation = key.partition(" ")
            self._known[content, perturbation] = row


def _content(path: Path, width: int) -> tuple[list[str], Features]:
    with np.load(path, allow_pickle=False) as held:
        keys, features = held["keys"].tolist(), held["features"]
    if features.shape != (len(keys), width):
        raise ValueError(f"features of the shape {features.shape}, not {(len(keys), width)}")
    return keys, features
