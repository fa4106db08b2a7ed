"""Turns rows that name images into pages of image refs. Applies the rules, and counts everything that is skipped."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from pydantic import TypeAdapter, ValidationError

from producers.listing import Page, Rules, SkipReason, Warn
from worker.errors import SourceError
from worker.messages import ImageRef
from worker.refs import ImageRefs
from worker.wording import worded

_REFS = TypeAdapter(list[ImageRef])

PAGE_ROWS = 5000
"""Rows per page. SQLite is asked once per page which uris came before, so large pages keep that cheap."""


class BadRow(NamedTuple):
    """A row that cannot be understood, and the reason."""

    text: str


Row = dict[str, Any] | BadRow | SkipReason | None
"""A row of a source: an ImageRef's fields, a fault, the cause for which it is skipped, or None for a blank line."""

Batch = list[Row] | ImageRefs
"""The rows of a page, or one ref for each of them."""


class Distinct(Protocol):
    """Knows the uris that came before."""

    def new(self, uris: list[str]) -> set[int]:
        """Returns the positions of the uris that are new, and remembers them."""


class Sieve:
    """Makes refs of fields under `rules`, and calls `warn` for fields that cannot be a ref. `label` stands before the
    row's number in such a warning.
    """

    def __init__(self, rules: Rules, warn: Warn, label: str = "") -> None:
        self._rules, self._warn, self._label = rules, warn, label
        self._refs: list[ImageRef] = []
        self._whole: list[ImageRefs] = []
        self._skipped: Counter[SkipReason] = Counter()

    @property
    def skipped(self) -> bool:
        """Whether something was skipped since the last page."""
        return bool(self._skipped)

    def take(self, image: ImageRef | dict[str, Any], number: int | None = None) -> None:
        """Takes an image into the page, or counts why it is skipped. `number` is the row's, from 1."""
        if isinstance(image, dict):
            uri = image.get("uri")
            try:
                image = ImageRef(**image)
            except ValidationError as error:
                fault = error.errors(include_url=False)[0]
                self.refuse(f"{uri!r}: {'.'.join(map(str, fault['loc']))}: {worded(fault)}", number)
                return
        why = self._rules.skip_reason(image.uri, image.size)
        if why is None:
            self._refs.append(image)
        else:
            self._skipped[why] += 1

    def take_all(self, refs: ImageRefs) -> None:
        """Takes these refs into the page, or counts why they are skipped."""
        whys = list(map(self._rules.skip_reason, refs.uris, refs.sizes))
        if any(whys):
            self._skipped.update(why for why in whys if why is not None)
            refs = refs.where([why is None for why in whys])
        self._whole.append(refs)

    def refuse(self, text: str, number: int | None = None) -> None:
        """Counts a row that is not an image, and warns about it."""
        self._warn(text if number is None else f"{self._label} {number}: {text}")
        self._skipped[SkipReason.INVALID] += 1

    def skip(self, why: SkipReason) -> None:
        """Counts something that is skipped, without a warning."""
        self._skipped[why] += 1

    def page(self, cursor: str) -> Page:
        """Returns everything that was taken since the last page."""
        refs = ImageRefs.joined([*self._whole, self._refs])
        page = Page(refs, cursor, dict(self._skipped))
        self._refs, self._whole, self._skipped = [], [], Counter()
        return page


def refs_of(rows: list[dict[str, Any]]) -> Sequence[ImageRef | dict[str, Any]]:
    """Returns the refs of these rows, or the rows as they are if one is invalid.

    Making all refs at once is twice as fast. `Sieve.take` accepts both, and says what is invalid.
    """
    try:
        return _REFS.validate_python(rows)
    except ValidationError:
        return rows


def go_to(rows: Iterator[Row], start: int, ended: SourceError, seen: Distinct | None = None) -> None:
    """Reads the first `start` rows again, so that `seen` knows them. Raises `ended` if there are fewer rows.

    A row is known by its uri alone, so nothing else of these rows is needed.
    """
    behind = 0
    while behind < start:
        batch = list(itertools.islice(rows, min(PAGE_ROWS, start - behind)))
        if not batch:
            raise ended
        _first_of_their_uri(batch, seen)
        behind += len(batch)


def batches_of(rows: Iterator[Row]) -> Iterator[Batch]:
    """Yields the rows page by page. Reads none ahead."""
    while batch := list(itertools.islice(rows, PAGE_ROWS)):
        yield batch


def paged(
    batches: Iterator[Batch], behind: int, sieve: Sieve, cursor: Callable[[int], str], seen: Distinct | None = None
) -> Iterator[Page]:
    """Yields a page for each batch of rows. `behind` rows came before. `cursor` gets the number of rows read so far.

    Uris that `seen` knows are skipped as duplicates.
    """
    for batch in batches:
        if isinstance(batch, ImageRefs):
            _take_refs(batch, sieve, seen)
        else:
            _take_rows(batch, behind, sieve, seen)
        behind += len(batch)
        yield sieve.page(cursor(behind))


def _take_refs(refs: ImageRefs, sieve: Sieve, seen: Distinct | None) -> None:
    new = range(len(refs)) if seen is None else seen.new(refs.uris)
    for _ in range(len(refs) - len(new)):
        sieve.skip(SkipReason.DUPLICATE)
    sieve.take_all(refs if len(new) == len(refs) else refs.where([n in new for n in range(len(refs))]))


def _take_rows(batch: list[Row], behind: int, sieve: Sieve, seen: Distinct | None) -> None:
    first = _first_of_their_uri(batch, seen)
    known = set() if first is None else set(range(len(batch))) - first
    images = iter(refs_of([row for n, row in enumerate(batch) if isinstance(row, dict) and n not in known]))
    for place, row in enumerate(batch):
        number = behind + place + 1
        if place in known:
            sieve.skip(SkipReason.DUPLICATE)
        elif isinstance(row, dict):
            sieve.take(next(images), number)
        elif isinstance(row, BadRow):
            sieve.refuse(row.text, number)
        elif row is not None:
            sieve.skip(row)


def _first_of_their_uri(batch: list[Row], seen: Distinct | None) -> set[int] | None:
    """Returns the positions of the rows in the batch that are no repetition, or None without `seen`."""
    if seen is None:
        return None
    uris: list[str] = []
    places, others = [], set()
    for place, row in enumerate(batch):
        if isinstance(row, dict) and isinstance(row["uri"], str):
            uris.append(row["uri"])
            places.append(place)
        else:
            others.add(place)
    return others | {places[index] for index in seen.new(uris)}
