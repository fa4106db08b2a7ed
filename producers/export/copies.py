"""Copies a dataset's images. Copies are named by their content, so that nothing is fetched twice."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import filetype

from worker.errors import ImageError, Reason
from worker.files import replacing
from worker.messages import ImageRef
from worker.storage import ImageStore

FOLDER = "images"
THREADS = 16
AT_ONCE = 64
"""How many images are fetched together. Memory may hold this many times FAKESWEEP_MAX_BYTES."""

Entry = dict[str, Any]


class Copies:
    """The folder images/ of a dataset."""

    def __init__(self, dataset: Path, store: ImageStore) -> None:
        self._folder, self._store = dataset / FOLDER, store
        self._folder.mkdir(exist_ok=True)
        # Partial files of a killed export start with a dot. In earlier releases they ended in .part.
        there = (path for path in self._folder.iterdir() if not path.name.startswith(".") and path.suffix != ".part")
        self._there = {path.stem: path.name for path in there}

    def of(self, records: Iterable[Entry]) -> Iterator[tuple[Entry, ImageError | None]]:
        """Yields each record with its copy as `image`, relative to the dataset, or with the error of its image.

        Raises StorageUnavailableError, because a dataset must not depend on which images could be read today.
        """
        records = iter(records)
        with ThreadPoolExecutor(THREADS) as pool:
            while batch := list(islice(records, AT_ONCE)):
                yield from pool.map(self._with_copy, batch)

    def _with_copy(self, record: Entry) -> tuple[Entry, ImageError | None]:
        try:
            return record | {"image": f"{FOLDER}/{self._name(record['uri'], record['sha256'])}"}, None
        except ImageError as error:
            return record, error

    def _name(self, uri: str, sha256: str) -> str:
        name = self._there.get(sha256)
        if name and _sha256((self._folder / name).read_bytes()) == sha256:
            return name
        content = self._store.fetch(ImageRef(uri=uri))
        if _sha256(content) != sha256:
            raise ImageError(Reason.CHANGED, "the content is no longer the one that people decided on")
        kind = filetype.guess(content)
        name = f"{sha256}.{kind.extension if kind else 'bin'}"
        with replacing(self._folder / name, binary=True) as file:
            file.write(content)
        return name


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
