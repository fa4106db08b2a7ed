"""The memory that decoding is said to need at most, compared with what it really takes."""

import io
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from worker.errors import ImageError, Reason
from worker.image_memory import decode_bytes
from worker.images import Decoding, Fit, SizeLimits, decode, open_image

MIB = 2**20


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    levels = np.random.default_rng(width * 10_000 + height).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(levels, "RGBA").convert(mode)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux knows the peak of a process")
@pytest.mark.timeout(300)
def test_no_format_takes_more_memory_than_its_limit(tmp_path: Path) -> None:
    """Measures processes that decode one file each."""
    output = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.decode_memory", "--megapixels", "1.5", "--output", str(output)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True)
    figures = json.loads(output.read_text())
    assert len(figures) > 60
    assert {name: one for name, one in figures.items() if one["peak"] > one["bound"]} == {}
    # A limit that is far too high would leave memory unused. That of AVIF is for 12 bits without subsampling.
    loose = {name for name, one in figures.items() if one["bound"] > 2.2 * one["peak"] + 8 * MIB}
    assert loose == set()


def test_the_limit_is_known_from_the_header() -> None:
    data = encoded(noise(900, 700))
    assert decode_bytes(data[:1000]) == pytest.approx(decode_bytes(data), abs=len(data))
    with pytest.raises(ImageError):
        decode(data[:1000])


def test_formats_and_options_with_higher_limits() -> None:
    image = noise(3000, 2000)
    pixels = 3000 * 2000
    upright = decode_bytes(encoded(image))
    assert 4 * pixels < upright < 4 * pixels + len(encoded(image)) + 10 * MIB
    assert decode_bytes(encoded(image, exif=turned(6))) > 8 * pixels
    assert decode_bytes(encoded(image, progressive=True, subsampling=0)) > 10 * pixels
    assert decode_bytes(encoded(image.convert("CMYK"))) > 8 * pixels
    assert 4 * pixels < decode_bytes(encoded(image, "WEBP", method=0)) < 8 * pixels
    assert decode_bytes(encoded(image, "WEBP", lossless=True, method=0, quality=0)) > 8 * pixels
    assert decode_bytes(encoded(image.convert("L"), "PNG", compress_level=1)) < 7 * pixels
    reduced = decode_bytes(encoded(image), decoding=Decoding.REDUCED)
    assert upright - 4 * pixels < reduced < upright - 2 * pixels
    # Coefficients are kept in full size, even if the image is decoded in a smaller one.
    assert decode_bytes(encoded(image, progressive=True, subsampling=0), decoding=Decoding.REDUCED) > 6 * pixels


def test_a_strip_is_small_but_its_resized_form_is_large() -> None:
    strip = encoded(noise(60_000, 100), "PNG", compress_level=0)
    grown = 336 * (336 * 60_000 // 100) * 4
    assert decode_bytes(strip) > grown
    assert decode_bytes(strip, fit=Fit.STRETCH) < grown
    assert decode_bytes(strip, limits=SizeLimits(max_pixels=10_000_000)) < grown  # to_square() refuses it


def test_a_tile_may_be_larger_than_the_image_in_it() -> None:
    data = bytearray(encoded(noise(64, 64), "TIFF", compression="tiff_deflate"))
    ordinary = decode_bytes(bytes(data))
    # The tag RowsPerStrip becomes TileLength, with 1,000,000 rows as a 32-bit number.
    at = data.index(struct.pack("<H", 278))
    data[at : at + 12] = struct.pack("<HHII", 323, 4, 1, 1_000_000)
    assert decode_bytes(bytes(data)) > ordinary + 64 * 1_000_000 * 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"hello, I am a text", Reason.NOT_AN_IMAGE),
        (b"8BPS\x00\x01" + b"\x00" * 64, Reason.UNSUPPORTED_FORMAT),
        (encoded(noise(50, 40), "PNG")[:20], Reason.CORRUPT),
        (encoded(noise(200, 201)), Reason.TOO_MANY_PIXELS),
    ],
)
def test_decode_bytes_refuses_the_same_files_as_decode(data: bytes, reason: Reason) -> None:
    said = []
    for refuse in (decode_bytes, decode):
        with pytest.raises(ImageError) as caught:
            refuse(data, limits=SizeLimits(max_pixels=40_000))
        said.append((caught.value.reason, caught.value.detail))
    assert said[0] == said[1]
    assert said[0][0] == reason


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.integers(0, 10_000))
def test_garbage_gives_a_limit_or_an_image_error(garbage: bytes, form: str, at: int) -> None:
    whole = encoded(noise(60, 50), form)
    place = at % len(whole)
    for data in (garbage, whole[:place] + garbage + whole[place + len(garbage) :]):
        try:
            assert decode_bytes(data) > 0
        except ImageError:
            with pytest.raises(ImageError):
                open_image(data)


# What saves memory must not change pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("form", "mode"),
    [
        ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "LA"),
        ("PNG", "1"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("TIFF", "RGB"), ("TIFF", "CMYK"), ("AVIF", "RGB"),
        ("AVIF", "RGBA"),
    ],
)  # fmt: skip
def test_pixels_equal_those_of_turning_and_converting_a_copy(form: str, mode: str, orientation: int) -> None:
    data = encoded(noise(90, 70, mode), form, exif=turned(orientation))
    plain = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    opened = open_image(data)
    assert (opened.size, opened.mode) == (plain.size, "RGB")
    assert opened.tobytes() == plain.tobytes()


@pytest.mark.parametrize("size", [(300, 400), (70_000, 8), (8, 70_000)])
def test_deep_levels_are_scaled_in_pieces_with_the_same_result(size: tuple[int, int]) -> None:
    width, height = size
    levels = np.random.default_rng(1).normal(0, 900, (height, width)).astype(np.float32)
    levels[0, 0] = np.nan
    data = encoded(Image.fromarray(levels), "TIFF")
    known = np.nan_to_num(levels.astype(np.float64))
    expected = np.clip(np.rint(known * (255.0 / 65535.0)), 0, 255)
    assert np.array_equal(np.asarray(open_image(data))[..., 0], expected)
