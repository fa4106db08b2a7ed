"""Reads how a picture must be turned from its EXIF and XMP, and turns it. Nothing else in them is read.

EXIF counts before XMP, as in Pillow's exif_transpose(). We do not call that function. It writes the EXIF back, which
raises an error when some other tag has an unexpected type.
"""

import re

from PIL import Image

from worker.images.directory import Directory, first_directory

_ORIENTATION = 0x0112
_PREFIX = re.compile(rb"(?:Exif\x00\x00){0,2}")
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """Returns the orientation, 1 to 8. XMP counts only if the EXIF has none. If both have none, it is 1 (upright)."""
    prefix = _PREFIX.match(exif)
    return orientation_in(first_directory(exif[prefix.end() :] if prefix else exif), xmp)


def orientation_in(directory: Directory | None, xmp: bytes) -> int:
    """Like orientation_of(), for EXIF whose directory is already read."""
    said = directory.numbers(_ORIENTATION)[:1] if directory else ()
    if not said and (match := _IN_XMP.search(xmp)):
        said = (int(match[1]),)
    return int(said[0]) if said and said[0] in _TURNS else 1


def is_on_its_side(orientation: int) -> bool:
    """Whether width and height are exchanged when the picture is turned."""
    return orientation in {5, 6, 7, 8}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Returns the image turned upright. Returns the same object if it is upright already."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
