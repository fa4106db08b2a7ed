"""What a listing consists of: pages of image refs, the rules for them, and the cursor from which it continues."""

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

__all__ = ["Page", "Rules", "SkipReason", "Source", "SourceError", "Warn", "ahead", "chunks"]

Warn = Callable[[str], None]
"""A function that receives one line about a fault in a source: something that cannot be read or understood."""


class SkipReason(StrEnum):
    """Why an object in a source is not an image of the scan. Each cause is counted."""

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
    """Which objects of a source are images of the scan.

    `suffixes` are compared without regard to case; none means that every key is allowed. `min_bytes` and `max_bytes`
    apply if the source tells the size of an object. A key that ends in "/" and has no bytes is what consoles create for
    a folder, and is never an image.
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

    def skip_reason(self, uri: str, size: int | None) -> SkipReason | None:
        """Returns why the object is not an image of the scan, or None if it is one."""
        if size == 0 and uri.endswith("/"):
            return SkipReason.FOLDER_MARKER
        if self.suffixes and not uri.lower().endswith(self.suffixes):
            return SkipReason.SUFFIX
        if size is not None and self.min_bytes is not None and size < self.min_bytes:
            return SkipReason.TOO_SMALL
        if size is not None and self.max_bytes is not None and size > self.max_bytes:
            return SkipReason.TOO_LARGE
        return None


@dataclass(frozen=True)
class Page:
    """A part of a listing.

    `cursor` is where the listing continues when this page, and all pages before it, are done. `skipped` counts the
    objects of this page that were skipped, by cause.
    """

    refs: Sequence[ImageRef]
    cursor: str
    skipped: Mapping[SkipReason, int]


class Source(Protocol):
    """A place where images are listed. No uri comes twice in one listing, even if it is interrupted and continued."""

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """Lists from the start (None), or from where a page's cursor says, and holds only a few pages at a time.

        Raises SourceError if the source cannot be read any further, or if the cursor no longer fits the source.
        """


def chunks(pages: Iterator[Page], size: int) -> Generator[Page]:
    """Joins pages until they hold `size` refs or more, so that ten thousand small prefixes make few chunks."""
    parts: list[Sequence[ImageRef]] = []
    held = 0
    skipped: Counter[SkipReason] = Counter()
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
    """Gives the same pages. While the caller works on one, a daemon thread reads the next two.

    The thread also closes the pages, and an error in it is raised here. Closing the generator ends the thread. If the
    thread still waits for its source after `parallel.CLOSE_LIMIT_S`, it is left behind, so that a silent pipe does not
    keep the process from ending.
    """
    with closing(in_parallel([pages], _until_closed, threads=1)) as arriving:
        for _, page in arriving:
            yield page


def _until_closed(pages: Generator[Page]) -> Generator[Page]:
    # The pages hold SQLite's connection, which belongs to the thread that made it, and must be closed there.
    with closing(pages):
        yield from pages
