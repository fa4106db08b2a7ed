"""TIFFs with more or larger tiles than their picture shows, and layouts that few programs write."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from tests.tiffs import LONG, SHORT, Tag, directory, grey_tiff, header
from worker.errors import ImageError, Reason
from worker.images import MAX_PIXELS, SizeLimits, open_image

RAMP = np.arange(64 * 48).reshape(48, 64)


def reason_of(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Reason:
    with pytest.raises(ImageError) as caught:
        open_image(data, limits=SizeLimits(max_pixels=max_pixels))
    return caught.value.reason


def tiff(size: tuple[int, int], pixels: bytes, tags: Sequence[tuple[int, int, Sequence[int]]]) -> bytes:
    """Returns a TIFF whose pixels begin at offset 8. `tags` may replace those of sizes, bits and compression."""
    named = {256: (LONG, [size[0]]), 257: (LONG, [size[1]]), 258: (SHORT, [8]), 259: (SHORT, [1]), 262: (SHORT, [1]),
             277: (SHORT, [1])} | {tag: (kind, list(values)) for tag, kind, values in tags}  # fmt: skip
    at = 8 + len(pixels)
    entries = [Tag(tag, kind, values) for tag, (kind, values) in sorted(named.items())]
    return header()[:4] + struct.pack("<I", at) + pixels + directory(at, entries)


def tiled(size: tuple[int, int], tile: tuple[int, int], block: bytes, *, compression: int = 8) -> bytes:
    """Returns a TIFF in which all tiles are the same block."""
    count = -(-size[0] // tile[0]) * -(-size[1] // tile[1])
    return tiff(size, block, [(259, SHORT, [compression]), (322, LONG, [tile[0]]), (323, LONG, [tile[1]]),
                              (324, LONG, [8] * count), (325, LONG, [len(block)] * count)])  # fmt: skip


def planes(
    bits: int, photometric: int, samples: int, extra: Sequence[int] = (), compression: int = 1, planar: int = 2
) -> bytes:
    """Returns a TIFF with grey planes of 64 x 48."""
    plane = b"\x7f" * (64 * 48 * bits // 8)
    plane = plane if compression == 1 else zlib.compress(plane)
    tags = [(258, SHORT, [bits] * samples), (259, SHORT, [compression]), (262, SHORT, [photometric]),
            (273, LONG, [8 + at * len(plane) for at in range(samples)]), (277, SHORT, [samples]), (278, LONG, [48]),
            (279, LONG, [len(plane)] * samples), (284, SHORT, [planar]), (530, SHORT, [1, 1])]  # fmt: skip
    return tiff((64, 48), plane * samples, [*tags, *([(338, SHORT, extra)] if extra else [])])


@pytest.mark.parametrize("compression", [1, 8])
def test_tiles_are_counted_even_if_the_picture_is_small(compression: int) -> None:
    block = bytes(256 * 256) if compression == 1 else zlib.compress(bytes(256 * 256))
    one = tiled((8, 256), (256, 256), block, compression=compression)
    assert open_image(one, limits=SizeLimits(max_pixels=65_536)).size == (8, 256)
    assert reason_of(one, max_pixels=65_535) == Reason.TOO_MANY_PIXELS
    four = tiled((8, 1024), (256, 256), block, compression=compression)
    assert open_image(four, limits=SizeLimits(max_pixels=65_536)).size == (8, 1024)
    five = tiled((8, 1025), (256, 256), block, compression=compression)
    assert reason_of(five, max_pixels=65_536) == Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("compression", [1, 8])
def test_many_small_tiles_are_a_picture(compression: int) -> None:
    block = b"\x7f" * 256 if compression == 1 else zlib.compress(b"\x7f" * 256)
    assert open_image(tiled((5120, 5184), (16, 16), block, compression=compression)).size == (5120, 5184)
    assert reason_of(tiled((1280, 1280), (4, 4), block, compression=compression)) == Reason.CORRUPT


def test_a_palette_of_16_bits_is_not_read() -> None:
    palette = Tag(320, SHORT, [0] * 3 * 2**16)
    data = grey_tiff((64, 48), 16, bytes(2 * 64 * 48), photometric=3, more=[palette])
    assert reason_of(data) == Reason.UNSUPPORTED_FORMAT


def test_grey_in_one_plane_is_read() -> None:
    levels = (RAMP * 21).astype("<u2")
    for compression in (1, 8):
        pixels = levels.tobytes() if compression == 1 else zlib.compress(levels.tobytes())
        plain, planar = (grey_tiff((64, 48), 16, pixels, compression=compression, more=more)
                         for more in ([], [Tag(284, SHORT, [2])]))  # fmt: skip
        assert open_image(planar).tobytes() == open_image(plain).tobytes()


def test_planes_that_are_read() -> None:
    for data in (planes(8, 2, 3), planes(8, 2, 4, [2]), planes(8, 2, 5, [0, 0], 8), planes(16, 2, 3, (), 8)):
        assert open_image(data).getpixel((9, 9)) == (127, 127, 127)


@pytest.mark.parametrize(
    "data",
    [
        planes(16, 2, 3),
        planes(8, 2, 4, [0]),
        planes(8, 2, 5, [0, 0]),
        planes(8, 6, 3),
        planes(8, 1, 2, [2]),
        grey_tiff((64, 48), 16, bytes(2 * 64 * 48)).replace(struct.pack("<HH", 262, 3), struct.pack("<HH", 263, 3)),
        planes(8, 2, 3, planar=1).replace(struct.pack("<HHIH", 259, 3, 1, 1), struct.pack("<HHIH", 259, 3, 1, 50001)),
        b"MM\x00+\x00\x08\x00\x00" + (16).to_bytes(8) + (1).to_bytes(8) + struct.pack(">HHQHHI", 256, 3, 1, 64, 0, 0)
        + bytes(8),
    ],
    ids=["16 bits", "unused plane", "unused planes", "YCbCr", "grey and alpha", "no photometric", "WebP", "big-endian"],
)  # fmt: skip
def test_layouts_that_are_not_read(data: bytes) -> None:
    assert reason_of(data) == Reason.UNSUPPORTED_FORMAT
