"""Decodes the images of a training set once, before the first step, so that every fault is known before GPUs are used.

The pixels are in one memory-mapped file, 336 x 336 x 3 bytes each: 35 GB for the 104,343 images of FakeClue, on the
training machine's own disk. All epochs read from this file.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.detector.description import Preprocessing
from worker.errors import ConfigurationError, ImageError
from worker.files import replacing
from worker.images import DEFAULT_LIMITS, SizeLimits, decode
from worker.lab.datasets.images import cause_of, image_ref
from worker.lab.datasets.records import Cause, Fault, Record
from worker.lab.training.usable import of_one_label
from worker.storage import ImageStore

Pixels = NDArray[np.uint8]

_PREPARED, _PIXELS = "prepared.json", "pixels.npy"
_AT_ONCE = 512  # records that threads get before their results are awaited


@dataclass(frozen=True)
class TrainingSet:
    """Records and what the detector sees of them. `pixels` has the shape (rows, edge, edge, 3), RGB in 0..255.

    `rows[i]` is the row of `records[i]`, and `contents[i]` the SHA-256 of its file.
    """

    records: tuple[Record, ...]
    rows: tuple[int, ...]
    contents: tuple[str, ...]
    pixels: Pixels

    def __len__(self) -> int:
        return len(self.records)

    def split(self, is_held_out: Callable[[str], bool]) -> tuple["TrainingSet", "TrainingSet"]:
        """Splits the set in two by the SHA-256 of the contents: images to learn from, and images that are held out."""
        held_out = [is_held_out(content) for content in self.contents]
        return tuple(  # type: ignore[return-value]
            TrainingSet(
                tuple(one for one, held in zip(self.records, held_out, strict=True) if held == side),
                tuple(one for one, held in zip(self.rows, held_out, strict=True) if held == side),
                tuple(one for one, held in zip(self.contents, held_out, strict=True) if held == side),
                self.pixels,
            )
            for side in (False, True)
        )


@dataclass(frozen=True)
class ImageSource:
    """Where the images are, and how they are prepared."""

    store: ImageStore
    images: str
    form: Preprocessing
    limits: SizeLimits = DEFAULT_LIMITS
    threads: int = 8


def prepare(
    records: Sequence[Record], source: ImageSource, folder: Path, key: str, tell: Callable[[Fault], None]
) -> TrainingSet:
    """Returns the training set in `folder`: from an earlier run with the same `key`, or decoded now.

    `tell` is called with each image that cannot be read, and may raise to stop; the other images are used. Raises
    StorageUnavailableError, because a short outage is no reason to train on fewer images, and ConfigurationError if the
    disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepared = _read(folder, key)
    if prepared is None:
        (folder / _PREPARED).unlink(missing_ok=True)  # it describes pixels that are about to be deleted
        prepared = {"key": key} | _decode_all(records, source, folder, tell)
        with replacing(folder / _PREPARED) as file:
            file.write(json.dumps(prepared))
    else:
        for fault in prepared["faults"]:
            tell(Fault(**fault | {"cause": Cause(fault["cause"])}))
    kept = of_one_label(records, prepared["contents"], tell)
    return TrainingSet(
        tuple(records[row] for row in kept),
        tuple(kept),
        tuple(prepared["contents"][row] for row in kept),
        np.load(folder / _PIXELS, mmap_mode="r"),
    )


def _read(folder: Path, key: str) -> dict[str, Any] | None:
    try:
        prepared = json.loads((folder / _PREPARED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return prepared if prepared.get("key") == key else None


def _decode_all(
    records: Sequence[Record], source: ImageSource, folder: Path, tell: Callable[[Fault], None]
) -> dict[str, Any]:
    pixels = _room(folder / _PIXELS, (len(records), source.form.edge, source.form.edge, 3))
    contents: list[str | None] = []
    faults: list[dict[str, Any]] = []
    for row, found in enumerate(_decoded(records, source)):
        if isinstance(found, Fault):
            tell(found)
            faults.append(vars(found))
            contents.append(None)
        else:
            content, pixels[row] = found
            contents.append(content)
    pixels.flush()
    return {"contents": contents, "faults": faults}


def _room(path: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.uint8]]":
    path.unlink(missing_ok=True)
    size = math.prod(shape)
    if shutil.disk_usage(path.parent).free < size:
        raise ConfigurationError(f"--output: {path.parent} has no room for {size >> 20} MiB of decoded images")
    pixels: np.memmap[Any, np.dtype[np.uint8]] = np.lib.format.open_memmap(path, "w+", np.uint8, shape)  # type: ignore[no-untyped-call]
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)  # otherwise a full disk would end us with SIGBUS
    return pixels


def _decoded(records: Sequence[Record], source: ImageSource) -> Iterator[tuple[str, Pixels] | Fault]:
    with ThreadPoolExecutor(source.threads, thread_name_prefix="decode") as pool:
        for start in range(0, len(records), _AT_ONCE):
            yield from pool.map(lambda record: _square(record, source), records[start : start + _AT_ONCE])


def _square(record: Record, source: ImageSource) -> tuple[str, Pixels] | Fault:
    try:
        data = source.store.fetch(image_ref(record.image, source.images))
        form = source.form
        square = decode(
            data,
            edge=form.edge,
            fit=form.fit,
            decoding=form.decode,
            limits=source.limits,
        )
    except ImageError as error:
        return Fault(record.line, record.image, cause_of(error), str(error))
    return hashlib.sha256(data).hexdigest(), np.asarray(square)


def classes_of(records: Iterable[Record], field: str) -> list[str]:
    """Returns the different values of a field of the records, FakeClue's or your own, in alphabetical order."""
    return sorted({value_of(record, field) for record in records})


def value_of(record: Record, field: str) -> str:
    """Returns a field of a record as text, or "" if the record has none."""
    value = (
        getattr(record, field, None) if field in type(record).model_fields else (record.model_extra or {}).get(field)
    )
    return "" if value is None else str(value)
