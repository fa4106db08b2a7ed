"""decode_bytes() says how much memory decoding an image may take. It reads only the header of the file.

The bound adds up what Pillow and its libraries hold at each step. `python -m benchmarks.decode_memory` measures the
factors: it decodes each format in a new process and compares the peak with the bound
(benchmarks/results/decode_memory.json). Bytes per pixel at the peak, with Pillow 13.0, for an upright RGB image:

| file | bytes per pixel | what they are |
|---|---|---|
| JPEG, PNG, BMP, TIFF | 4 | Pillow stores RGB in four bytes |
| the same, turned by its EXIF orientation | 8 | the image before and after it is turned |
| progressive JPEG | 7 to 10 | the image, and two bytes for each coefficient, of the full size even if reduced |
| grey or palette | 5 | one byte, and the RGB image |
| RGBA, CMYK | 8 | the image, and the RGB image; progressive CMYK 12 |
| WebP | 4 | libwebp writes into Pillow's memory; 6 with alpha, 8 if lossless, 4 more on a larger canvas |
| AVIF | 10 to 12 | planes, the RGB made of them, and Pillow's image; with 10 and 12 bits, the planes count twice |
| HEIC | 8 to 10 | the same as for AVIF, but only one copy of the planes |
"""

import io
import re
import struct
from itertools import pairwise
from typing import Any

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    ROWSPERSTRIP,
    TILELENGTH,
    TILEWIDTH,
    TiffImageFile,
)

from worker.images import (
    DEFAULT_LIMITS,
    EDGE,
    Decoding,
    Fit,
    SizeLimits,
    opened_header,
    reduce_jpeg,
)
from worker.images.grey import is_deep
from worker.images.header import Header
from worker.images.heif import HeifFile
from worker.images.jpeg import JpegFile
from worker.images.webp import WebPFile

_RGB = 4
"""Bytes per pixel of Pillow's modes RGB, RGBA, CMYK, F, and of all others that are not named below."""
_NARROW = {"1": 1, "L": 1, "P": 1}
_SLACK = 4 * 2**20
"""Bytes for buffers of some rows, for tables, and for small Python objects."""
_TILE = 600
"""Bytes that Pillow keeps in Python for each uncompressed strip or tile."""


def decode_bytes(
    data: bytes,
    *,
    edge: int = EDGE,
    fit: Fit = Fit.CROP,
    decoding: Decoding = Decoding.FULL,
    limits: SizeLimits = DEFAULT_LIMITS,
) -> int:
    """Returns how many bytes worker.images.decode() holds at most with these arguments, without `data` itself.

    Only the header is read. If the header cannot be read, or names too many or too few pixels, this raises the same
    ImageError as decode(). A file that is broken after its header gets the same bound as an intact file.
    """
    with opened_header(data, limits=limits) as header:
        image = header.image
        own = _bytes_a_pixel(image.mode)
        coefficients = _coefficients(image)
        whole = own * image.width * image.height
        reduce_jpeg(image, edge=edge, decoding=decoding)
        pixels = image.width * image.height
        kept = _planes(image, data)
        steps = [
            own * pixels + coefficients + _while_loading(image, data),
            kept + own * pixels * (1 if header.orientation == 1 else 2),
            kept + _while_made_rgb(header) * pixels,
            kept + _RGB * (pixels + _square_pixels(image.size, edge, fit, limits.max_pixels)),
        ]
        if isinstance(image, JpegFile) and image.cut is not None:
            # JpegFile.load() decodes it in full size. It makes two copies of the file, one after the other, each with
            # another end.
            steps.append(whole + coefficients + 2 * len(data))
        has_more = is_deep(image.mode) or isinstance(image, HeifFile)
        return max(steps) + _beside_pixels(header, data) + (2 * _SLACK if has_more else _SLACK)


def _bytes_a_pixel(mode: str) -> int:
    return 2 if mode.startswith("I;16") else _NARROW.get(mode, _RGB)


def _while_made_rgb(header: Header) -> int:
    """Bytes per pixel of the image before it is converted to RGB, and after.

    An image with deep levels is converted to 8 bits first, and the deep image is released.
    """
    mode = header.image.mode
    if mode in {"RGB", "RGBX"}:
        return _RGB
    return (1 if is_deep(mode) else _bytes_a_pixel(mode)) + _RGB


def _square_pixels(size: tuple[int, int], edge: int, fit: Fit, max_pixels: int) -> int:
    """Pixels of the resized image, and of the image that is resized in one direction only."""
    width, height = size
    if fit is not Fit.CROP:
        return edge * (edge + height)
    short, long = sorted(size)
    resized = int(edge * long / short)
    if edge * resized > max_pixels:  # to_square() refuses it
        return 0
    return edge * resized + height * (edge if width <= height else resized)


def _while_loading(image: Image.Image, data: bytes) -> int:
    """Bytes that the format's decoder needs in addition to Pillow's pixels while it decodes."""
    pixels = image.width * image.height
    if isinstance(image, WebPFile):
        return _while_webp(image)
    if isinstance(image, HeifFile):
        return _while_heif(image, data)
    if image.format == "AVIF":
        return _planes(image, data) + len(image.getbands()) * pixels
    return _strips(image) if isinstance(image, TiffImageFile) else 0


def _while_webp(image: WebPFile) -> int:
    """Bytes of the pixels of a lossless picture, of an alpha plane, and of a frame before it is put on its canvas."""
    kinds = {kind for kind, _ in image.contents.parts}
    width, height = image.contents.frame_size
    a_pixel = 4 * (b"VP8L" in kinds) + 5 * (b"ALPH" in kinds) + (0 if image.contents.is_whole else _RGB)
    return a_pixel * width * height


def _planes(image: Image.Image, data: bytes) -> int:
    """Bytes of an AVIF's planes, which are held until the file is closed: two copies, without subsampling.

    They take two bytes per sample if any item has more than 8 bits.
    """
    if image.format != "AVIF":
        return 0
    items = re.findall(rb"av1C..(.)", data[: 2**16], re.DOTALL)
    deep = not items or any(one[0] & 0x40 for one in items)
    return 2 * len(image.getbands()) * (2 if deep else 1) * image.width * image.height


def _while_heif(image: HeifFile, data: bytes) -> int:
    """Bytes of the planes of a HEIC and its parts, and of the samples that are made of them.

    They are twice as many if any item has more than 8 bits.
    """
    depths = [one[0] & 7 for one in re.findall(rb"hvcC.{17}(.)", data[: 2**16], re.DOTALL)]  # bits minus 8
    deep = not depths or any(depths)
    return int(image.channels * (5 if deep else 2.5) * (image.width * image.height + image.decoded))


def _strips(image: TiffImageFile) -> int:
    """Bytes of the largest strip or tile while it is decoded. The file may choose any size for it."""
    if image.tile and image.tile[0].codec_name == "raw":
        # Pillow reads up to the next strip, and appends that to what is left of the previous strip.
        offsets = sorted(tile.offset for tile in image.tile)
        return 3 * max((after - before for before, after in pairwise(offsets)), default=0)
    tags: Any = image.tag_v2
    width, height = tags.get(TILEWIDTH, image.width), tags.get(TILELENGTH, 0)
    height = height or min(tags.get(ROWSPERSTRIP, image.height), image.height)
    samples = tags.get(BITSPERSAMPLE) or (8,)
    a_pixel = max(_RGB, sum(samples) // 8 + 1)
    # libtiff's buffer and ours. A JPEG in a TIFF may be progressive, and then needs two bytes for each of four samples.
    copies = 3 if "jpeg" in str(image.info.get("compression")) else 2
    return int(width) * int(height) * a_pixel * copies


def _coefficients(image: Image.Image) -> int:
    """Bytes of a JPEG's coefficients. All are kept if the image is not in one scan."""
    if not isinstance(image, JpegImageFile) or not image.layer or _is_one_scan(image):
        return 0
    across, down = (max(layer[place] for layer in image.layer) or 1 for place in (1, 2))
    units = -(-image.width // (8 * across)) * -(-image.height // (8 * down))
    return int(units * sum(layer[1] * layer[2] for layer in image.layer) * 64 * 2)


def _is_one_scan(image: JpegImageFile) -> bool:
    if "progressive" in image.info or not isinstance(image.fp, io.BytesIO):
        return False
    # Pillow has read up to the end of the first scan's header. The header says how many components the scan holds.
    components = len(image.layer)
    header = image.fp.getvalue()[max(0, image.fp.tell() - 8 - 2 * components) :][:5]
    return header == struct.pack(">HHB", 0xFFDA, 6 + 2 * components, components)


def _beside_pixels(header: Header, data: bytes) -> int:
    """Bytes of the file without its metadata, of the copies that some decoders make, and of Pillow's list of tiles."""
    image = header.image
    again = {"JPEG": 1, "AVIF": 1, "HEIF": 1}.get(image.format or "", 0) * len(data)
    tiles = _TILE * len(image.tile) if isinstance(image, TiffImageFile) else 0
    return header.copied + again + tiles
