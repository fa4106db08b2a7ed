"""decode() gives the pixels of Hugging Face's preprocessing, and refuses broken files."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from worker.errors import ImageError, Reason
from worker.images import EDGE, MAX_PIXELS, Fit, SizeLimits, decode, open_image, to_square

REFERENCE = CLIPImageProcessorPil(
    size={"shortest_edge": EDGE}, crop_size={"height": EDGE, "width": EDGE}, do_rescale=False, do_normalize=False
)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    levels = np.random.default_rng(width * 10_000 + height).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(levels, "RGBA").convert(mode)


def reference(image: Image.Image) -> np.ndarray:
    """Returns what FakeVLM's preprocessing makes of an upright image: 336 x 336 x 3."""
    return np.asarray(REFERENCE(image, return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)


def reason_of(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Reason:
    with pytest.raises(ImageError) as caught:
        decode(data, limits=SizeLimits(max_pixels=max_pixels))
    return caught.value.reason


@pytest.mark.parametrize(
    "size", [(336, 336), (337, 336), (640, 480), (480, 641), (50, 40), (1200, 90), (8, 700), (4000, 3000)]
)
def test_pixels_equal_the_reference_in_many_sizes(size: tuple[int, int]) -> None:
    image = noise(*size)
    assert np.array_equal(np.asarray(decode(encoded(image))), reference(image))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP", "GIF", "BMP"])
def test_pixels_equal_the_reference_in_all_modes_and_formats(mode: str, form: str) -> None:
    try:
        data = encoded(noise(400, 350, mode), form)
    except (OSError, ValueError):
        assert (form, mode) not in {("PNG", "RGB"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGBA")}
        return  # this format does not have this mode
    assert np.array_equal(np.asarray(decode(data)), reference(Image.open(io.BytesIO(data))))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(8, 900), st.integers(8, 900))
def test_pixels_equal_the_reference_for_any_size(width: int, height: int) -> None:
    image = noise(width, height)
    assert np.array_equal(np.asarray(decode(encoded(image, compress_level=1))), reference(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_first(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_270],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_90],
    }[orientation]  # fmt: skip
    image = noise(500, 340)
    expected = image
    for turn in upright:
        expected = expected.transpose(turn)
    assert np.array_equal(np.asarray(decode(encoded(image, exif=exif))), reference(expected))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(form: str) -> None:
    ramp = np.linspace(0, 65535, 336 * 336).reshape(336, 336).astype(np.uint16)
    grey = np.asarray(decode(encoded(Image.fromarray(ramp), form)))
    assert np.array_equal(grey[..., 0], np.rint(ramp / 257.0).astype(np.uint8))
    assert np.array_equal(grey[..., 0], grey[..., 2])


def test_floats_of_zero_to_one_are_scaled() -> None:
    ramp = np.linspace(0, 1, 336 * 336, dtype=np.float32).reshape(336, 336)
    grey = np.asarray(decode(encoded(Image.fromarray(ramp), "TIFF")))
    assert grey.min() == 0
    assert grey.max() == 255
    assert abs(float(grey.mean()) - 127.5) < 1


def test_the_first_frame_of_an_animation_is_taken() -> None:
    first, second = Image.new("RGB", (400, 400), "red"), Image.new("RGB", (400, 400), "blue")
    data = encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True)
    assert decode(data).getpixel((100, 100)) == (255, 0, 0)


def test_another_edge() -> None:
    assert decode(encoded(noise(300, 200)), edge=112).size == (112, 112)


def test_an_empty_file() -> None:
    assert reason_of(b"") == Reason.EMPTY


@pytest.mark.parametrize("data", [b"hello, I am a text", b"\x00" * 100, b"%PDF-1.7 ...", b"<svg xmlns='x'/>"])
def test_files_that_are_no_images(data: bytes) -> None:
    assert reason_of(data) == Reason.NOT_AN_IMAGE


def test_formats_that_are_not_supported() -> None:
    heic = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + b"\x00" * 64
    assert reason_of(heic) == Reason.UNSUPPORTED_FORMAT
    assert reason_of(b"8BPS\x00\x01" + b"\x00" * 64) == Reason.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_truncated_file_is_corrupt(form: str, share: float) -> None:
    data = encoded(noise(500, 400), form)
    assert reason_of(data[: int(len(data) * share)]) == Reason.CORRUPT


def test_pixels_are_counted_before_they_are_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert reason_of(bomb) == Reason.TOO_MANY_PIXELS
    assert reason_of(encoded(noise(200, 200)), max_pixels=39_999) == Reason.TOO_MANY_PIXELS


def test_a_long_thin_strip_must_not_grow_without_limit() -> None:
    assert reason_of(encoded(noise(20_000, 8))) == Reason.TOO_MANY_PIXELS


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"]), st.integers(0, 10_000))
def test_garbage_raises_only_image_errors(garbage: bytes, form: str, at: int) -> None:
    whole = encoded(noise(60, 50), form)
    place = at % len(whole)
    for data in (garbage, whole[:place] + garbage + whole[place + len(garbage) :]):
        try:
            assert open_image(data).mode == "RGB"
        except ImageError as error:
            assert error.detail


def test_pad_and_stretch_keep_the_whole_image() -> None:
    wide = Image.new("RGB", (800, 200), "white")
    wide.paste("red", (0, 0, 40, 200))  # CLIP's crop cuts this part off
    cropped, padded, stretched, bilinear = (np.asarray(to_square(wide, edge=112, fit=fit)) for fit in Fit)
    assert {pixels.shape for pixels in (cropped, padded, stretched, bilinear)} == {(112, 112, 3)}
    assert np.abs(stretched.astype(int) - bilinear).max() in range(1, 60)  # another filter, and the same picture
    red = [((pixels[:, :, 0] > 200) & (pixels[:, :, 1] < 60)).mean() for pixels in (cropped, padded, stretched)]
    assert red[0] == 0
    assert red[1] == pytest.approx(0.05 * 0.25, rel=0.3)
    assert red[2] == pytest.approx(0.05, rel=0.3)
    assert tuple(padded[0, 0]) == (122, 116, 104)
    assert tuple(stretched[0, 60]) == (255, 255, 255)
