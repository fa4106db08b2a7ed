"""Ranges of S3 keys: cuts a listing into parts that threads read at the same time, and tracks what is left of them.

S3 lists keys in the order of their UTF-8 bytes. Python compares text by code point, which is the same order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from producers.sources.cursors import Cursor, read_cursor
from worker.errors import SourceError

MAX_RANGES = 32
"""How many ranges a listing's cursor holds at first: 64 keys of at most 1,024 bytes."""


@dataclass(frozen=True)
class Range:
    """The keys of the prefix with this number after `after`, up to and including `until`. None means no bound.

    It is half-open like S3's StartAfter: the next range begins where this one ends.
    """

    prefix: int
    after: str | None = None
    until: str | None = None


def cut(prefix: int, bounds: Iterable[str], most: int = MAX_RANGES) -> list[Range]:
    """Cuts a prefix's keys into at most `most` ranges, at some of the sorted `bounds`.

    The last range has no end, so that keys which appear later belong to a range.
    """
    keys = list(bounds)
    count = min(most, len(keys))
    cuts = [keys[len(keys) * part // count] for part in range(1, count)]
    return [Range(prefix, after, until) for after, until in zip([None, *cuts], [*cuts, None], strict=True)]


class _Left(Cursor):
    """What is left of the prefixes with the digest `of`: the `open` ranges, and all prefixes from number `next` on."""

    of: str
    next: int
    open: tuple[tuple[int, str | None, str | None], ...]


class Frontier:
    """What is left of a listing of `prefixes` prefixes: `ranges` that are open, and all prefixes from `begun` on.

    A work is one of these ranges or prefixes. Works are numbered from 0 in this order.
    """

    def __init__(self, prefixes: int, ranges: Sequence[Range] = (), begun: int = 0) -> None:
        self._prefixes, self._ranges, self._begun = prefixes, tuple(ranges), begun
        self._left = dict(enumerate(ranges))
        self._entered = len(ranges)

    @classmethod
    def read(cls, cursor: str, prefixes: int, of: str, source: str) -> "Frontier":
        """Reads a cursor. Raises SourceError if it is for other prefixes than those with the digest `of`."""
        left = read_cursor(_Left, cursor, source)
        if left.of != of:
            raise SourceError(f"{source}: its cursor is of other prefixes: give those that the scan began with")
        return cls(prefixes, [Range(*bounds) for bounds in left.open], left.next)

    def __len__(self) -> int:
        return len(self._ranges) + self._prefixes - self._begun

    def works(self) -> Iterator[Range]:
        """Yields all works as they were at first."""
        yield from self._ranges
        yield from map(Range, range(self._begun, self._prefixes))

    def advance(self, work: int, last: str | None, *, finished: bool) -> None:
        """Notes that a work's keys up to `last` (None: it has none) are done. `finished`: all its keys are done."""
        while self._entered <= work:
            self._left[self._entered] = Range(self._begun + self._entered - len(self._ranges))
            self._entered += 1
        if finished:
            del self._left[work]
        elif last is not None:
            self._left[work] = replace(self._left[work], after=last)

    def cursor(self, of: str) -> str:
        """Returns what is left, as JSON."""
        entered = self._begun + self._entered - len(self._ranges)
        bounds = tuple((left.prefix, left.after, left.until) for left in self._left.values())
        return _Left(of=of, next=entered, open=bounds).model_dump_json()
