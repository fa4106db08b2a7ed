"""Opens the first page of TIFF files, with only the tags that decide its pixels.

Camera raw files are TIFFs too. They are refused.
"""

import io
import struct
from collections.abc import Iterator
from typing import Any

from PIL import ImageFile, ImagePalette
from PIL.TiffImagePlugin import COMPRESSION_INFO, TiffImageFile

from worker.errors import ImageError, Reason
from worker.images.directory import Directory, directory_at, first_directory
from worker.images.grey import Levels
from worker.images.header import Header
from worker.images.orientation import orientation_in
from worker.images.tiff_layout import check_is_read, check_work

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT = 256, 257, 258, 259, 262, 277, 339
_SUBFILE, _OLD_SUBFILE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 255, 330, 50706
_PLANAR, _SUBSAMPLING, _XMP, _COLOUR_MAP = 284, 530, 700, 320
_PIXEL_TAGS = {
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT, _PLANAR, _SUBSAMPLING,
    _COLOUR_MAP, 266, 273, 278, 279, 292, 293, 317, 322, 323, 324, 325, 332, 338, 347, *range(512, 522), 529, 531,
    532,
}  # fmt: skip
"""The tags that Pillow and libtiff need for decoding: sizes, layout, compression, colour. Others are left out."""
_NEEDED_TAGS = {_BITS, _COLOUR_MAP, 273, 279, 324, 325, 347}
"""Tags whose values may be elsewhere in the file. Without these values, nothing can be decoded."""
_RAW_PHOTOMETRICS = {32803, 34892}
"""Colour filter array and linear raw: the numbers of a sensor, which are not yet a picture."""
_RAW_COMPRESSIONS = {32767, 32769, 32770, 34713, 65000, 65535}
"""Compressions of Sony, Epson, Samsung, Nikon, Kodak and Pentax."""
_CR2 = b"*\x00\x10\x00\x00\x00CR\x02"
_PHASE_ONE = {b"IIIITwaR", b"MMMMRawT"}
_MAX_DIRECTORIES = 32
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}


class TiffFile(TiffImageFile):
    """Pillow's TIFF image, without Pillow's limit on pixels and without reading EXIF after decoding.

    Our own limit is checked before.
    """

    def load_prepare(self) -> None:
        """Allocates the memory for the pixels."""
        ImageFile.ImageFile.load_prepare(self)

    def load_end(self) -> None:
        """Does nothing. Pillow's own method reads EXIF here."""


def open_tiff(data: bytes, max_pixels: int) -> Header:
    """Opens a TIFF's first page. Raises ImageError, and what Pillow raises for broken files."""
    page = first_directory(data)
    if page is None or not page.is_whole:
        raise ImageError(Reason.CORRUPT, "the file's directory is missing or cut off")
    _check_is_picture(page)
    check_is_read(page)
    check_work(page, _PIXEL_TAGS, max_pixels)
    levels = _levels(page)
    bare = _bare(page, _as_pillow_knows(page, levels))
    image = TiffFile(io.BytesIO(bare))
    if image.use_load_libtiff:  # libtiff gives numbers in this machine's byte order; Pillow expects that of some modes
        image.tile = [tile._replace(args=_native(tile.args)) for tile in image.tile]
    colours = page.numbers(_COLOUR_MAP) if image.palette else ()
    if colours and max(colours) < 256:  # noqa: PLR2004 - old programs wrote 8 bits instead of 16; libtiff checks it too
        image.palette = ImagePalette.raw("RGB;L", bytes(int(colour) for colour in colours))
    return Header(image, orientation_in(page, _xmp(page)), len(bare), levels)


def _as_pillow_knows(page: Directory, levels: Levels | None) -> dict[int, int]:
    """Returns the tags that must be changed so that Pillow reads all numbers in the same way.

    to_8_bit() then inverts the levels and handles their sign.
    """
    changed = {_PLANAR: 1} if page.number(_SAMPLES, 1) == 1 else {}  # one sample is one plane
    if levels and levels.is_inverted:
        changed[_PHOTOMETRIC] = 1
    if levels and levels.bits == 32 and not levels.is_signed:  # noqa: PLR2004
        changed[_FORMAT] = 2
    return changed


def _native(args: Any) -> Any:
    return (_NATIVE.get(args[0], args[0]), *args[1:]) if isinstance(args, tuple) else args


def _check_is_picture(page: Directory) -> None:
    """Raises ImageError with unsupported_format for camera raw files, for previews, and for what Pillow cannot read."""
    others = list(_others(page))
    is_raw = _DNG_VERSION in page.entries or page.data[2:11] == _CR2 or page.data[8:16] in _PHASE_ONE
    if is_raw or any(_is_raw(one) for one in (page, *others)):
        raise ImageError(Reason.UNSUPPORTED_FORMAT, "a camera raw file, whose first page is only a preview")
    if _is_reduced(page) and any(_area(one) > _area(page) for one in others):
        raise ImageError(Reason.UNSUPPORTED_FORMAT, "the first page says that it is only a preview of another one")
    compression = page.number(_COMPRESSION, 1)
    if compression not in COMPRESSION_INFO:
        raise ImageError(Reason.UNSUPPORTED_FORMAT, f"a TIFF with compression {compression}")
    if compression == 1 and page.number(_PHOTOMETRIC, 1) == 6 and page.numbers(_SUBSAMPLING)[:2] != (1, 1):  # noqa: PLR2004
        raise ImageError(Reason.UNSUPPORTED_FORMAT, "a TIFF with uncompressed, subsampled colour")


def _is_raw(page: Directory) -> bool:
    return page.number(_PHOTOMETRIC, 1) in _RAW_PHOTOMETRICS or page.number(_COMPRESSION, 1) in _RAW_COMPRESSIONS


def _is_reduced(page: Directory) -> bool:
    return bool(int(page.number(_SUBFILE, 0)) & 1) or page.number(_OLD_SUBFILE, 1) == 2  # noqa: PLR2004 - by the format


def _area(page: Directory) -> float:
    return page.number(_WIDTH, 0) * page.number(_HEIGHT, 0)


def _others(page: Directory) -> Iterator[Directory]:
    """Yields the sub-pages of the first page, and the pages that follow it, up to _MAX_DIRECTORIES of each."""
    for place in page.numbers(_SUB_DIRECTORIES)[:_MAX_DIRECTORIES]:
        if other := directory_at(page.data, int(place), page.order, is_big=page.is_big):
            yield other
    at = page.next_at
    for _ in range(_MAX_DIRECTORIES):
        other = directory_at(page.data, at, page.order, is_big=page.is_big)
        if other is None:
            return
        yield other
        at = other.next_at


def _levels(page: Directory) -> Levels | None:
    """Returns what the numbers of a grey image mean. None for colour, and for grey that Pillow reads correctly."""
    bits, photometric = int(page.number(_BITS, 1)), page.number(_PHOTOMETRIC, 0)
    form = page.number(_FORMAT, 1)
    is_signed = form != 1  # two's complement, or floats, which have a sign of their own
    if page.number(_SAMPLES, 1) != 1 or photometric not in {0, 1} or bits < 8 or (bits == 8 and not is_signed):  # noqa: PLR2004
        return None
    return Levels(bits, is_signed, is_inverted=photometric == 0)


def _xmp(page: Directory) -> bytes:
    entry = page.entries.get(_XMP)
    return page.data[entry.values_at : entry.values_at + entry.count] if entry and entry.values_at else b""


def _bare(page: Directory, changed: dict[int, int]) -> bytes:
    """Returns the file with one page that has only the tags of pixels. `changed` holds new values for some of them."""
    order, data = page.order, page.data
    entries = []
    for tag, entry in sorted(page.entries.items()):
        if tag in _NEEDED_TAGS and entry.values_at is None:
            raise ImageError(Reason.CORRUPT, f"the values of TIFF tag {tag} are not in the file")
        if tag in _PIXEL_TAGS and entry.values_at is not None:
            size = 20 if page.is_big else 12
            new = struct.pack(order + ("HHQHHI" if page.is_big else "HHIHH"), tag, 3, 1, changed.get(tag, 0), 0,
                              *((0,) if page.is_big else ()))  # fmt: skip
            entries.append(new if tag in changed else data[entry.at : entry.at + size])
    gap = len(data) % 2
    at = len(data) + gap
    head = data[:8] + struct.pack(order + "Q", at) if page.is_big else data[:4] + struct.pack(order + "I", at)
    count, end = struct.pack(order + ("Q" if page.is_big else "H"), len(entries)), bytes(8 if page.is_big else 4)
    return b"".join([head, memoryview(data)[len(head) :], bytes(gap), count, *entries, end])
