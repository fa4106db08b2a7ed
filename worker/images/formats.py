"""format_of() says which format a file has, by its first bytes."""

import re

import filetype

from worker.errors import ImageError, Reason
from worker.images.boxes import brand_of

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")

_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II\x00*": "TIFF",  # this and the next are wrong, but some programs write them
    b"MM*\x00": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
}
_BMP = "image/bmp"
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
"""How many bytes the second header of a BMP may have. This is checked because text may begin with BM too."""

_OTHER_PICTURES = {
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"8BPS": "Photoshop",
    b"\x00\x00\x01\x00": "icon",
    b"\x00\x00\x02\x00": "cursor",
    b"icns": "Apple icon",
    b"qoif": "QOI",
    b"DDS ": "DDS",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"#?RGBE": "Radiance HDR",
    b"gimp xcf": "GIMP",
    b"SIMPLE  =": "FITS",
    b"AT&TFORM": "DjVu",
    b"BPG\xfb": "BPG",
    b"FLIF": "FLIF",
    b"\x8aMNG\r\n\x1a\n": "MNG",
    b"\x8bJNG\r\n\x1a\n": "JNG",
    b"II\xbc\x01": "JPEG XR",
    b"FUJIFILMCCD-RAW": "Fujifilm's raw",
    b"IIU\x00": "Panasonic's raw",
    b"IIRO": "Olympus' raw",
    b"IIRS": "Olympus' raw",
    b"MMOR": "Olympus' raw",
    b"FOVb": "Sigma's raw",
    b"\x00MRM": "Minolta's raw",
    b"II\x1a\x00\x00\x00HEAPCCDR": "Canon's raw",
    b"\xd7\xcd\xc6\x9a": "Windows metafile",
    b"Y\xa6j\x95": "Sun raster",
    b"\x01\xda\x00": "SGI",
    b"\x01\xda\x01": "SGI",
}
_PNM = re.compile(rb"P[1-7]\s+(#|\d|WIDTH)")
_RAW_BRANDS = {b"crx ": "Canon's raw"}


def format_of(data: bytes) -> str:
    """Returns one of FORMATS. Raises ImageError with unsupported_format or not_an_image."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if known := brand_of(data) or _by_start(data, _STARTS):
        return known
    raise _refusal(data)


def _by_start(data: bytes, starts: dict[bytes, str]) -> str | None:
    return next((name for start, name in starts.items() if data.startswith(start)), None)


def _refusal(data: bytes) -> ImageError:
    name = _by_start(data, _OTHER_PICTURES) or (_RAW_BRANDS.get(data[8:12]) if data[4:8] == b"ftyp" else None)
    kind = filetype.guess(data)
    mime: str | None = kind.mime if kind else None
    if name is None and mime and mime.startswith("image/") and mime != _BMP:
        name = mime
    if name is None and _is_other_picture(data):
        name = "PNM, DICOM or TGA"
    if name:
        return ImageError(Reason.UNSUPPORTED_FORMAT, f"{name} is not one of {', '.join(FORMATS)}")
    return ImageError(Reason.NOT_AN_IMAGE, f"the content is {mime or 'of an unknown type'}")


def _is_other_picture(data: bytes) -> bool:
    return bool(_PNM.match(data)) or data[128:132] == b"DICM" or data[-18:] == b"TRUEVISION-XFILE.\x00"
