"""Shows the images of a training set to a tower, as they are and under the recipe's changes."""

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from PIL import Image

from worker.errors import ImageError
from worker.lab.datasets.images import cause_of, image_ref
from worker.lab.datasets.records import Fault, Record
from worker.lab.evaluation.perturbations import CLEAN
from worker.lab.evaluation.perturbed import squares_under
from worker.lab.training.head.cache import FeatureCache, Key
from worker.lab.training.head.tower import Features
from worker.lab.training.recipe import HeadRecipe
from worker.lab.training.squares import ImageSource

_A = TypeVar("_A")
_B = TypeVar("_B")

Changes = Callable[[str], tuple[str, ...]]
"""Returns the perturbations under which the content with this SHA-256 is learned. If there are none, it is held out."""


class FeatureSource(Protocol):
    """Makes features of prepared squares: a Tower, or a fake of worker.testing."""

    def features(self, squares: Sequence[Image.Image]) -> Features:
        """Returns the features of the squares in float32, in order, of the shape (images, width)."""


@dataclass(frozen=True)
class _Shown:
    """An image: its SHA-256, and the squares that the tower has not seen yet."""

    content: str
    squares: dict[str, Image.Image]


def changes_of(recipe: HeadRecipe, seed: int) -> Changes:
    """Returns the function that chooses the changes of an image: the content and the seed decide, and nothing else."""

    def changes(content: str) -> tuple[str, ...]:
        chance = random.Random(f"{seed} changes {content}")  # noqa: S311 - no secret
        count = min(recipe.copies, len(recipe.augment))
        return (CLEAN, *chance.sample(recipe.augment, count))

    return changes


def show_all(
    records: Sequence[Record],
    source: ImageSource,
    tower: FeatureSource,
    cache: FeatureCache,
    changes: Changes,
    *,
    batch_size: int,
    tell: Callable[[Fault], None],
    advance: Callable[[int, int], None],
) -> list[str | None]:
    """Fetches every image, and puts the features that `cache` lacks into it. Returns the SHA-256 of each record's file.

    It is None for an image that cannot be read: `tell` is called with it, and may raise to stop. `advance` is called
    with the number of records that are done, and of all. Images whose features are known are fetched, because only
    their content says so, and not decoded. Raises StorageUnavailableError.
    """
    contents: list[str | None] = []
    waiting: list[tuple[Key, Image.Image]] = []

    def look(count: int) -> None:
        keys, squares = zip(*waiting[:count], strict=True)
        cache.add(keys, tower.features(squares))
        del waiting[:count]

    try:
        for found in _ahead(lambda record: _shown(record, source, cache, changes), records, source.threads):
            if isinstance(found, Fault):
                tell(found)
            else:
                waiting += [((found.content, change), square) for change, square in found.squares.items()]
            contents.append(None if isinstance(found, Fault) else found.content)
            while len(waiting) >= batch_size:
                look(batch_size)
            advance(len(contents), len(records))
        if waiting:
            look(len(waiting))
    finally:
        cache.save()  # also after Ctrl-C
    return contents


def _ahead(work: Callable[[_A], _B], items: Iterable[_A], threads: int) -> Iterator[_B]:
    """Yields the results in order. A few are ready before they are asked for, so that the tower seldom waits."""
    running: deque[Future[_B]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for item in items:
                running.append(pool.submit(work, item))
                if len(running) > 2 * threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _shown(record: Record, source: ImageSource, cache: FeatureCache, changes: Changes) -> _Shown | Fault:
    try:
        data = source.store.fetch(image_ref(record.image, source.images))
        content = hashlib.sha256(data).hexdigest()
        changed = changes(content)
        wanted = [change for change in changed if (content, change) not in cache]
        # The noise depends on the content, and not on its name: the features belong to the content.
        squares = squares_under(wanted if changed else [CLEAN], data, content, source.form, source.limits)
    except ImageError as error:
        return Fault(record.line, record.image, cause_of(error), str(error))
    # What is held out was only decoded, to find its faults.
    return _Shown(content, dict(zip(wanted, squares, strict=True)) if changed else {})
