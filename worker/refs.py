"""Stores many image refs as columns."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress
from typing import Self, overload

from worker.messages import ImageRef


class ImageRefs(Sequence[ImageRef]):
    """A sequence of image refs. A ref is made only when it is read.

    A nightly scan reads the columns of a million refs, and makes refs only for the few images that changed. Making an
    ImageRef takes longer than everything else that is done with it.
    """

    __slots__ = ("etags", "external_ids", "sizes", "uris")

    def __init__(
        self,
        uris: list[str],
        etags: list[str | None],
        sizes: list[int | None],
        external_ids: list[str | None],
    ) -> None:
        self.uris, self.etags, self.sizes, self.external_ids = uris, etags, sizes, external_ids

    @classmethod
    def of(cls, refs: Iterable[ImageRef]) -> "ImageRefs":
        """Returns these refs as columns."""
        if isinstance(refs, ImageRefs):
            return refs
        refs = list(refs)
        return cls(
            [ref.uri for ref in refs],
            [ref.etag for ref in refs],
            [ref.size for ref in refs],
            [ref.external_id for ref in refs],
        )

    @classmethod
    def joined(cls, parts: Sequence[Sequence[ImageRef]]) -> "ImageRefs":
        """Returns the refs of all parts, in their order. If there is only one part, it is not copied."""
        columns = [cls.of(part) for part in parts if part]
        if len(columns) == 1:
            return columns[0]
        return cls(
            list(chain.from_iterable(one.uris for one in columns)),
            list(chain.from_iterable(one.etags for one in columns)),
            list(chain.from_iterable(one.sizes for one in columns)),
            list(chain.from_iterable(one.external_ids for one in columns)),
        )

    def where(self, wanted: Sequence[bool]) -> Self:
        """Returns the refs for which `wanted`, one for each ref, is true."""
        columns = (self.uris, self.etags, self.sizes, self.external_ids)
        return type(self)(*(list(compress(column, wanted)) for column in columns))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.uris)

    @overload
    def __getitem__(self, place: int) -> ImageRef: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> ImageRef | Self:
        if isinstance(place, slice):
            return type(self)(self.uris[place], self.etags[place], self.sizes[place], self.external_ids[place])
        return ImageRef(
            uri=self.uris[place], etag=self.etags[place], size=self.sizes[place], external_id=self.external_ids[place]
        )

    def __iter__(self) -> Iterator[ImageRef]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
