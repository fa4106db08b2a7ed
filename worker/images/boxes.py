"""The boxes of AVIF and HEIC files (ISO/IEC 14496-12, 23008-12), as far as they must be known before decoding."""

from collections.abc import Iterator

from worker.errors import ImageError, Reason

_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
_MAX_BOXES = 10_000  # of one level


def brand_of(data: bytes) -> str | None:
    """AVIF, HEIF or None, by the brands that the file claims."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4]), 512, len(data))
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & _AVIF:
        return "AVIF"
    return "HEIF" if brands & _HEIF else None


def has_meta(data: bytes) -> bool | None:
    """Whether the file names still images; None when it ends before that is known."""
    at = 0
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"meta":
            return True
        at = max(start, end)
    return None if at > len(data) else False


def without_descriptions(data: bytes) -> bytes:
    """The file in which no item describes another one: decoders then look at no EXIF and no XMP."""
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
    """Kind, start and end of the content of each box between `at` and `end`. The last one may end after the file."""
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
        if size < 8:  # noqa: PLR2004 - a broken one
            return
        at += size
    if at + 8 <= end:  # what is not seen here is seen by decoders
        raise ImageError(Reason.CORRUPT, f"more than {_MAX_BOXES} boxes in one")
