"""The picture that people see is judged: grey levels as the file defines them, no previews, HEIC and HEIF."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.tiffs import LONG, SHORT, Tag, directory, grey_tiff, header
from worker.errors import ImageError, Reason
from worker.images import SizeLimits, open_image

SIZE = WIDTH, HEIGHT = 64, 48
RAMP = np.linspace(0, 1, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)


def grey_of(data: bytes) -> NDArray[np.float64]:
    """Returns the levels of a grey picture, from 0 to 1."""
    pixels = np.asarray(open_image(data))
    assert (pixels[..., 0] == pixels[..., 2]).all()
    return pixels[..., 0] / 255


def refusal(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(data)
    return caught.value


def packed_12(levels: NDArray[np.float64]) -> bytes:
    pairs = np.rint(4095 * levels).astype(int).reshape(-1, 2)
    return b"".join(bytes([one >> 4, (one & 15) << 4 | two >> 8, two & 255]) for one, two in pairs)


def whole(kind: str, levels: NDArray[np.float64]) -> bytes:
    """Returns the levels as integers, over the whole range of their type."""
    limits = np.iinfo(kind)
    return np.rint(limits.min + levels * (float(limits.max) - limits.min)).astype(kind).tobytes()


@pytest.mark.parametrize("compression", [1, 8], ids=["raw", "deflate"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("photometric", [0, 1], ids=["white is zero", "black is zero"])
@pytest.mark.parametrize(
    ("bits", "sample_format", "kind"),
    [
        (8, 1, "u1"),
        (8, 2, "i1"),
        (16, 1, "u2"),
        (16, 2, "i2"),
        (32, 1, "u4"),
        (32, 2, "i4"),
        (32, 3, "f4"),
        (12, 1, ""),
    ],
)
def test_grey_levels_follow_bits_sign_and_photometry(
    bits: int, sample_format: int, kind: str, photometric: int, order: str, compression: int
) -> None:
    stored = RAMP if photometric else 1 - RAMP
    if kind == "":
        pixels = packed_12(stored)
    elif kind == "f4":
        pixels = stored.astype(order + kind).tobytes()
    else:
        pixels = whole(order + kind, stored)
    if compression == 8:
        pixels = zlib.compress(pixels)
    data = grey_tiff(SIZE, bits, pixels, photometric=photometric, sample_format=sample_format, order=order,
                     compression=compression)  # fmt: skip
    try:
        levels = grey_of(data)
    except ImageError as error:
        assert error.reason == Reason.UNSUPPORTED_FORMAT
        assert (bits, order) == (12, ">")
        return
    assert abs(levels - RAMP).max() < 0.006


def test_integers_of_32_bits_that_hold_16_or_8() -> None:
    for top in (255, 65535):
        data = grey_tiff(SIZE, 32, np.rint(RAMP * top).astype("<i4").tobytes(), sample_format=2)
        assert abs(grey_of(data) - RAMP).max() < 0.006


@pytest.mark.parametrize(
    ("bits", "sample_format", "kind"), [(64, 3, "f8"), (16, 3, "f2"), (16, 4, "u2"), (24, 1, "u1")]
)
def test_levels_that_are_not_read(bits: int, sample_format: int, kind: str) -> None:
    data = grey_tiff(SIZE, bits, bytes(bits // 8 * WIDTH * HEIGHT), sample_format=sample_format)
    assert refusal(data).reason == Reason.UNSUPPORTED_FORMAT


def rgb_page(size: tuple[int, int], at: int, more: Sequence[Tag]) -> list[Tag]:
    width, height = size
    tags = [
        Tag(256, LONG, [width]), Tag(257, LONG, [height]), Tag(258, SHORT, [8, 8, 8]), Tag(259, SHORT, [1]),
        Tag(262, SHORT, [2]), Tag(273, LONG, [at]), Tag(277, SHORT, [3]), Tag(278, LONG, [height]),
        Tag(279, LONG, [width * height * 3]),
    ]  # fmt: skip
    others = {tag.tag for tag in more}
    return sorted([*(tag for tag in tags if tag.tag not in others), *more], key=lambda tag: tag.tag)


def two_pages(first: Sequence[Tag], second: Sequence[Tag], *, is_under: bool) -> bytes:
    """Returns a TIFF with a picture of 64 x 48, and one of 320 x 240 as its next page or below it (SubIFD)."""
    pixels_at, second_at = 2000, 20_000
    tags = [*first, Tag(330, LONG, [second_at])] if is_under else first
    data = header() + directory(8, rgb_page(SIZE, pixels_at, tags), next_at=0 if is_under else second_at)
    data = data.ljust(pixels_at, b"\x00") + bytes([10, 200, 20]) * (WIDTH * HEIGHT)
    return data.ljust(second_at, b"\x00") + directory(second_at, rgb_page((320, 240), 30_000, second)) + bytes(250_000)


REDUCED = Tag(254, LONG, [1])


@pytest.mark.parametrize("is_under", [False, True], ids=["after", "under"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([Tag(50706, 1, [1, 4, 0, 0])], []),
        ([REDUCED], []),
        ([Tag(255, SHORT, [2])], []),
        ([], [Tag(262, SHORT, [32803])]),
        ([], [Tag(259, SHORT, [34713])]),
    ],
    ids=["DNG", "preview", "preview by the old tag", "numbers of a sensor", "Nikon's compression"],
)
def test_the_preview_in_a_raw_file_is_not_judged(first: list[Tag], second: list[Tag], *, is_under: bool) -> None:
    assert refusal(two_pages(first, second, is_under=is_under)).reason == Reason.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("is_under", [False, True], ids=["after", "under"])
def test_other_tiffs_are_judged_by_their_first_page(*, is_under: bool) -> None:
    assert open_image(two_pages([], [REDUCED], is_under=is_under)).size == SIZE
    assert open_image(two_pages([], [], is_under=is_under)).getpixel((5, 5)) == (10, 200, 20)
    alone = header() + directory(8, rgb_page(SIZE, 300, [REDUCED])).ljust(292, b"\x00") + bytes(64 * 48 * 3)
    assert open_image(alone).size == SIZE


def test_colours_of_8_bits_in_a_map_of_16() -> None:
    colours = [level for _ in range(3) for level in range(256)]
    data = grey_tiff((256, 16), 8, bytes(range(256)) * 16, photometric=3, more=[Tag(320, SHORT, colours)])
    assert np.array_equal(np.asarray(open_image(data))[0, :, 0], np.arange(256))


def test_subsampled_colour_without_compression_is_not_guessed() -> None:
    target = io.BytesIO()
    Image.new("RGB", SIZE, "red").convert("YCbCr").save(target, "TIFF")
    data = target.getvalue()
    assert open_image(data).getpixel((5, 5)) == pytest.approx((255, 0, 0), abs=3)
    subsampled = data.replace(struct.pack("<HHI", 530, SHORT, 2), struct.pack("<HHI", 65000, SHORT, 2))
    assert refusal(subsampled).reason == Reason.UNSUPPORTED_FORMAT  # without the tag it is 2 x 2


def heic(image: Image.Image, **options: object) -> bytes:
    target = io.BytesIO()
    pillow_heif.from_pillow(image).save(target, quality=-1, **options)
    return target.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_heic_is_read(mode: str) -> None:
    image = Image.linear_gradient("L").resize((80, 64)).convert(mode)
    pixels = np.asarray(open_image(heic(image))).astype(int)
    assert abs(pixels - np.asarray(image.convert("RGB")).astype(int)).max() <= 3


@pytest.mark.parametrize("to_12_bit", [False, True], ids=["10 bits", "12 bits"])
def test_heic_of_more_than_8_bits(monkeypatch: pytest.MonkeyPatch, *, to_12_bit: bool) -> None:
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", to_12_bit)
    levels = np.rint(RAMP * 65535).astype(np.uint16)
    file = pillow_heif.from_bytes("RGB;16", SIZE, np.stack([levels] * 3, axis=-1).tobytes())
    target = io.BytesIO()
    file.save(target, quality=-1)
    assert pillow_heif.open_heif(target.getvalue(), convert_hdr_to_8bit=False).info["bit_depth"] > 8
    assert abs(grey_of(target.getvalue()) - RAMP).max() < 0.02


def test_heic_has_the_limits_of_other_formats() -> None:
    data = heic(Image.new("RGB", (200, 200)))
    with pytest.raises(ImageError) as caught:
        open_image(data, limits=SizeLimits(max_pixels=39_999))
    assert caught.value.reason == Reason.TOO_MANY_PIXELS
    assert refusal(data[: len(data) // 2]).reason == Reason.CORRUPT
    assert refusal(data.replace(b"hvc1", b"j2k1")).reason == Reason.UNSUPPORTED_FORMAT
    assert refusal(data[:4] + b"ftypcrx " + data[12:16] + b"isom" * 3).reason == Reason.UNSUPPORTED_FORMAT


def test_webp_pixels_are_those_of_pillow() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (90, 70, 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA")
    small = Image.new("RGBA", image.size)
    small.paste(image.crop((20, 30, 60, 70)), (20, 30))
    for options in ({"quality": 30}, {"lossless": True}, {"quality": 70, "alpha_quality": 20},
                    {"save_all": True, "append_images": [image.rotate(180)], "lossless": True}):  # fmt: skip
        for picture in (image, image.convert("RGB"), small):
            target = io.BytesIO()
            picture.save(target, "WEBP", **options)
            with Image.open(target) as plain:
                assert open_image(target.getvalue()).tobytes() == plain.convert("RGB").tobytes()
