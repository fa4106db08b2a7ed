"""Reads the boxes of AVIF and HEIC files (ISO/IEC 14496-12, 23008-12) that must be known before decoding."""

from collections.abc import Iterator

from worker.errors import ImageError, Reason

_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
_MAX_BOXES = 10_000  # in one box or in the file, without the boxes inside them


def brand_of(data: bytes) -> str | None:
    """Returns "AVIF", "HEIF" or None, by the brands that the file names."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4]), 512, len(data))
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & _AVIF:
        return "AVIF"
    return "HEIF" if brands & _HEIF else None


def has_meta(data: bytes) -> bool | None:
    """Whether the file has a list of still images (a `meta` box). None if the file ends before this is known."""
    at = 0
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"meta":
            return True
        at = max(start, end)
    return None if at > len(data) else False


def without_descriptions(data: bytes) -> bytes:
    """Returns the file without the links that say which item describes another. So decoders read no EXIF and no XMP."""
    found = bytearray()
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"meta":
            for inner, inner_start, inner_end in boxes(data, start + 4, end):
                if inner == b"iref":
                    for link, link_start, _ in boxes(data, inner_start + 4, inner_end):
                        if link == b"cdsc":
                            found = found or bytearray(data)
                            found[link_start - 4 : link_start] = b"skip"
    return bytes(found) if found else data


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind of each box between `at` and `end`, and the start and end of its content.

    The last box may end after the end of the file. Raises ImageError with corrupt if there are too many boxes.
    """
    end = min(end, len(data))
    for _ in range(_MAX_BOXES):
        if at + 8 > end:
            return
        size, start = int.from_bytes(data[at : at + 4]), at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16]), at + 16
        if size == 0:
            size = end - at
        yield data[at + 4 : at + 8], start, at + size
        if size < 8:  # noqa: PLR2004 - a broken box
            return
        at += size
    if at + 8 <= end:  # decoders would read the boxes that we do not
        raise ImageError(Reason.CORRUPT, f"more than {_MAX_BOXES} boxes on one level")
