"""Opens JPEG files, without their metadata. Limits the number of their scans.

A file is accepted if only its end marker is missing.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from worker.errors import ImageError, Reason
from worker.images.header import Header
from worker.images.limits import MAX_SCANS, check_blocks, check_passes
from worker.images.orientation import orientation_of
from worker.images.preprocessing import Decoding

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

_END = b"\xff\xd9"
_SCAN, _COMMENT, _ADOBE = 0xDA, 0xFE, 0xEE
_ALONE = {0x01, *range(0xD0, 0xDA)}
_APPLICATION, _METADATA = range(0xE1, 0xF0), 0xE1
_LOSSLESS = 0xC3
_FRAMES = {0xC0, 0xC1, 0xC2, _LOSSLESS, 0xC9, 0xCA}
_OTHER_FRAMES = {0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""Hierarchical, lossless with arithmetic coding, and JPEG-LS: rare forms that libjpeg does not read."""
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Any marker except the restart markers, which belong to the pixels."""
_EXIF, _XMP = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
_LONGEST_EXIF = 2**20
"""Bytes that are kept of EXIF. The orientation is at the beginning."""
_ROWS = 64
_MADE_UP = (b"\xa5\x3c\x96\x0f" * 64, b"\x5a\xc3\x69\xf0" * 64)


class JpegFile(JpegImageFile):
    """Pillow's JPEG image. If the file has no end marker, load() checks whether pixels are missing too."""

    cut: bytes | None = None
    """The file without an end marker. None if the file has its end marker."""
    is_lossless: bool = False
    """A lossless file holds no frequencies, so libjpeg cannot decode it at a smaller size."""

    def load(self) -> "PixelAccess | None":
        """Decodes the pixels. Raises ImageError with corrupt if some are missing.

        libjpeg computes missing pixels from the bytes that follow. So we decode the file with different bytes at its
        end. If the pixels are the same each time, none is missing. This is done in full size, because at 1/8 nobody
        would see that a whole scan of details is missing.
        """
        if self._im is None and self.cut is not None:
            seen = {_digest(self.cut + made_up + _END) for made_up in (b"", *_MADE_UP)}
            if len(seen) > 1:
                raise ImageError(Reason.CORRUPT, "the file ends before its last pixels")
        return super().load()


def _digest(data: bytes) -> bytes:
    """Returns a digest of a JPEG's pixels. So only one decoded image is in memory at a time."""
    image, digest = JpegImageFile(io.BytesIO(data)), hashlib.sha256()
    image.load()
    for top in range(0, image.height, _ROWS):
        digest.update(image.crop((0, top, image.width, min(top + _ROWS, image.height))).tobytes())
    return digest.digest()


@dataclass
class _Head:
    """What was read before the pixels. `kept`: the parts of the file that decide the pixels, and the pixels."""

    kept: list[memoryview | bytes] = field(default_factory=list)
    exif: bytes = b""
    xmp: bytes = b""
    scan_at: int = 0
    """Where the first scan begins; 0 if there is none."""
    frame: bytes = b""
    is_lossless: bool = False


def open_jpeg(data: bytes, max_pixels: int) -> Header:
    """Opens a JPEG file without its metadata. Raises ImageError, and what Pillow raises for broken files."""
    head = _read_head(data)
    is_cut = bool(head.scan_at) and data.rfind(_END, head.scan_at) < 0
    if is_cut and data.endswith(_END[:1]):  # half of the end marker is there
        return open_jpeg(data.rstrip(_END[:1]), max_pixels)
    parts = [*head.kept, _END] if is_cut else head.kept
    bare = data if len(parts) == 1 else b"".join(parts)
    image = JpegFile(io.BytesIO(bare))
    image.is_lossless = head.is_lossless
    _check_scans(data, head, image, max_pixels)
    if is_cut:
        image.cut = bare[: -len(_END)]
    return Header(image, orientation_of(head.exif, head.xmp), 0 if bare is data else len(bare))


def reduce_jpeg(image: Image.Image, *, edge: int, decoding: Decoding) -> None:
    """Prepares a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size, if `decoding` says so. Changes `image.size`.

    It takes the smallest scale whose width and height are both large enough. A JPEG stores blocks of 8 x 8 pixels as
    frequencies. At a smaller size, the high frequencies need not be computed.
    """
    least = decoding.least(edge)
    if least and isinstance(image, JpegImageFile) and not (isinstance(image, JpegFile) and image.is_lossless):
        image.draft(None, (least, least))


def _read_head(data: bytes) -> _Head:
    head, view, start = _Head(), memoryview(data), 0
    for marker, at, end in segments(data, 2):
        if marker == _SCAN:
            head.scan_at = at
            break
        if marker in _OTHER_FRAMES:
            raise ImageError(Reason.UNSUPPORTED_FORMAT, f"a JPEG of a rare kind (marker FF{marker:02X})")
        if marker in _FRAMES:
            head.frame, head.is_lossless = data[at + 4 : end], marker == _LOSSLESS
        if marker == _COMMENT or (marker in _APPLICATION and marker != _ADOBE):
            if marker == _METADATA:
                _read_metadata(data[at + 4 : end], head)
            head.kept.append(view[start:at])
            start = end
    head.kept.append(view[start:])
    if head.frame[1:3] == b"\x00\x00":
        raise ImageError(Reason.UNSUPPORTED_FORMAT, "a JPEG whose height comes only after its pixels")
    return head


def segments(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Yields the marker, the start and the end of each segment from `at` on. Bytes between two segments are skipped."""
    for number in range(len(data)):
        check_blocks(number, "segments")
        at = data.find(b"\xff", at)
        while 0 <= at < len(data) - 1 and data[at + 1] == 0xFF:  # noqa: PLR2004 - fill bytes
            at += 1
        if not 0 <= at < len(data) - 3:
            return
        marker = data[at + 1]
        length = 0 if marker == 0 or marker in _ALONE else int.from_bytes(data[at + 2 : at + 4])
        if length >= 2:  # noqa: PLR2004 - the length counts itself
            yield marker, at, min(at + 2 + length, len(data))
        at += 2 + length


def _read_metadata(body: bytes, head: _Head) -> None:
    if body.startswith(_EXIF) and len(head.exif) < _LONGEST_EXIF:  # large EXIF is split over several segments
        head.exif += body[len(_EXIF) :] if head.exif else body
    elif body.startswith(_XMP):
        head.xmp = body[len(_XMP) :]


def _check_scans(data: bytes, head: _Head, image: JpegFile, max_pixels: int) -> None:
    """Raises ImageError with too_many_pixels if there are too many scans, and with corrupt if some are missing."""
    is_cut = data.rfind(_END, head.scan_at) < 0
    if not is_cut and data.count(b"\xff\xda", head.scan_at) < 2:  # noqa: PLR2004 - as in most files
        return
    pixels = image.width * image.height
    scans = []
    for header in _scans(data, head.scan_at):
        scans.append(header)
        check_passes(len(scans), pixels, max_pixels)
    if is_cut and not _are_complete(scans, image):
        raise ImageError(Reason.CORRUPT, "the file ends before its last scan")


def _scans(data: bytes, at: int) -> Iterator[bytes]:
    """Yields the header of each scan, up to the end of the image."""
    while 0 < at < len(data) - 4:
        length = int.from_bytes(data[at + 2 : at + 4])
        if data[at + 1] == _SCAN:
            yield data[at + 4 : at + 2 + length]
        found = _MARKER.search(data, at + 2 + length)
        if found is None or found[0] == _END:
            return
        at = found.start()


def _are_complete(scans: list[bytes], image: JpegFile) -> bool:
    """Whether the scans hold every coefficient of every component up to its last bit."""
    missing = {layer[0]: set(range(64)) for layer in image.layer}
    for header in scans[:MAX_SCANS]:
        count = header[0] if header else 0
        first, last, bits = (*header[1 + 2 * count : 4 + 2 * count], 0, 0, 0)[:3]
        if not bits & 15:
            for component in header[1 : 1 + 2 * count : 2]:
                missing.get(component, set()).difference_update(range(first, last + 1))
    return not any(missing.values())
