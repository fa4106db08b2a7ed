"""What a listing is made of: pages of image refs, the rules that they pass, and the cursor from which it goes on."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from producers.parallel import in_parallel
from worker.errors import SourceError
from worker.messages import ImageRef
from worker.refs import ImageRefs

__all__ = ["Page", "PassedOver", "Rules", "Source", "SourceError", "Warn", "ahead", "chunks"]

Warn = Callable[[str], None]
"""Told, in one line, of a fault in a source: what cannot be read or understood."""


class PassedOver(StrEnum):
    """Why something in a source is not an image of the scan. Every one is counted."""

    SUFFIX = "suffix"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    FOLDER_MARKER = "folder_marker"
    OLD_VERSION = "old_version"
    DELETE_MARKER = "delete_marker"
    DUPLICATE = "duplicate"
    INVALID = "invalid"
    UNREADABLE = "unreadable"


class Rules(BaseModel):
    """Which objects of a source are images of the scan. `suffixes` without regard to case; none means every key.

    `min_bytes` and `max_bytes` hold where the source tells an object's size. A key that ends in "/" and has no bytes
    is what consoles make for a folder, and never an image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    suffixes: tuple[Annotated[str, StringConstraints(to_lower=True, min_length=1)], ...] = ()
    min_bytes: Annotated[int, Field(ge=0)] | None = None
    max_bytes: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_bytes is not None and self.max_bytes is not None and self.min_bytes > self.max_bytes:
            raise ValueError("min_bytes must not be above max_bytes")
        return self

    def passed_over(self, uri: str, size: int | None) -> PassedOver | None:
        """Why the object is no image of the scan; None when it is one."""
        if size == 0 and uri.endswith("/"):
            return PassedOver.FOLDER_MARKER
        if self.suffixes and not uri.lower().endswith(self.suffixes):
            return PassedOver.SUFFIX
        if size is not None and self.min_bytes is not None and size < self.min_bytes:
            return PassedOver.TOO_SMALL
        if size is not None and self.max_bytes is not None and size > self.max_bytes:
            return PassedOver.TOO_LARGE
        return None


@dataclass(frozen=True)
class Page:
    """A part of a listing. `cursor` is where the listing goes on once this page, and all before it, are taken care of.

    `skipped` counts what was passed over in this page, by cause.
    """

    refs: Sequence[ImageRef]
    cursor: str
    skipped: Mapping[PassedOver, int]


class Source(Protocol):
    """Somewhere where images are listed. No uri comes twice in one listing, cut and resumed or not."""

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """The listing from its start (None) or from where a page's cursor says. Holds few pages at a time.

        Raises SourceError when reading breaks off, or when the cursor does not fit the source any more.
        """


def chunks(pages: Iterator[Page], size: int) -> Generator[Page]:
    """The pages, joined until they hold `size` refs or more: ten thousand small prefixes make few chunks."""
    parts: list[Sequence[ImageRef]] = []
    held = 0
    skipped: Counter[PassedOver] = Counter()
    cursor = None
    for page in pages:
        if page.refs:
            parts.append(page.refs)
            held += len(page.refs)
        skipped.update(page.skipped)
        cursor = page.cursor
        if held >= size:
            yield Page(ImageRefs.joined(parts), cursor, dict(skipped))
            parts, held, skipped, cursor = [], 0, Counter(), None
    if cursor is not None:
        yield Page(ImageRefs.joined(parts), cursor, dict(skipped))


def ahead(pages: Generator[Page]) -> Generator[Page]:
    """The same pages; while one is worked on, a daemon thread reads the next two. That thread closes them, too.

    What the thread raises is raised here. To close the generator ends the thread, or leaves it behind when it still
    waits for its source after `parallel.CLOSE_LIMIT_S`: a silent pipe keeps no process from ending.
    """
    with closing(in_parallel([pages], _until_closed, threads=1)) as arriving:
        for _, page in arriving:
            yield page


def _until_closed(pages: Generator[Page]) -> Generator[Page]:
    # What the pages hold (SQLite's connection) belongs to the thread that made it, and is closed there.
    with closing(pages):
        yield from pages
