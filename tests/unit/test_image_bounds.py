"""Limits of time and size, files without their last bytes, and the reasons why files are not read."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from tests.chaos.fuzz_images import fuzz
from tests.tiffs import LONG, SHORT, Tag, grey_tiff
from worker.errors import ImageError, Reason
from worker.image_memory import decode_bytes
from worker.images import Decoding, SizeLimits, open_for, open_image
from worker.images.limits import MAX_BLOCKS, MAX_SCANS, MIN_EDGE


def noise(width: int = 90, height: int = 70, mode: str = "RGB") -> Image.Image:
    levels = np.random.default_rng(width).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(levels, "RGBA").convert(mode)


def encoded(form: str, image: Image.Image | None = None, **options: object) -> bytes:
    target = io.BytesIO()
    (image or noise()).save(target, form, **options)
    return target.getvalue()


def reason_of(data: bytes, **limits: int) -> Reason:
    """Returns the reason for which the file is refused."""
    with pytest.raises(ImageError) as caught:
        open_image(data, limits=SizeLimits(**limits))
    assert caught.value.detail
    return caught.value.reason


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def many_scans(side: int, scans: int) -> bytes:
    """Returns a progressive grey JPEG. Each of its scans of details is one run of empty blocks."""
    blocks = ((side + 7) // 8) ** 2
    assert 16384 <= blocks < 32768  # the blocks of one run
    frame = struct.pack(">BHHB3B", 8, side, side, 1, 1, 17, 0)
    head = b"\xff\xd8" + segment(0xDB, b"\x00" + b"\x01" * 64) + segment(0xC2, frame)
    tables = segment(0xC4, b"\x00\x01" + bytes(15) + b"\x00") + segment(0xC4, b"\x10\x01" + bytes(15) + b"\xe0")
    first = segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes(blocks // 8 + 1)
    run = int(f"0{blocks - 16384:014b}1", 2).to_bytes(2)  # the code for a run of 14 bits, and these bits
    return head + tables + first + (segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + run) * scans + b"\xff\xd9"


# Time


def test_a_jpeg_with_very_many_scans_is_refused() -> None:
    assert open_image(many_scans(1100, 20)).size == (1100, 1100)
    for data, max_pixels in ((many_scans(1100, MAX_SCANS + 1), 10**8), (many_scans(1100, 200), 2_000_000)):
        assert reason_of(data, max_pixels=max_pixels) == Reason.TOO_MANY_PIXELS
        with pytest.raises(ImageError):
            decode_bytes(data, limits=SizeLimits(max_pixels=max_pixels))


def test_the_scans_of_an_encoder_are_accepted() -> None:
    data = encoded("JPEG", progressive=True)
    assert data.count(b"\xff\xda") > 5
    assert open_image(data, limits=SizeLimits(max_pixels=90 * 70)).size == (90, 70)
    hidden = data[:-2] + segment(0xE5, b"\xff\xd9" + b"\xff\xda" * 2000) + b"\xff\xd9" + b"\xff\xda" * 5000
    assert open_image(hidden).tobytes() == open_image(data).tobytes(), (
        "markers in a segment or after the end are no scans"
    )


def test_a_jpeg_in_a_tiff_has_the_same_limit() -> None:
    data = encoded("TIFF", noise(200, 160), compression="jpeg")
    assert open_image(data).size == (200, 160)
    assert reason_of(data + b"\xff\xda" * 400, max_pixels=40_000) == Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "TIFF"])
def test_endless_pieces_are_refused(form: str) -> None:
    many = MAX_BLOCKS + 9
    if form == "JPEG":
        data = encoded("JPEG")
        data = data[:2] + segment(0xFE, b"") * many + data[2:]
    elif form == "PNG":
        data = encoded("PNG")
        data = data[:33] + (struct.pack(">I4s", 0, b"tEXt") + struct.pack(">I", zlib.crc32(b"tEXt"))) * many + data[33:]
    elif form == "GIF":
        data = encoded("GIF", noise(mode="L"))
        at = data.index(b"\x2c\x00\x00\x00\x00")
        data = data[:at] + b"\x21\xfe" + b"\x01A" * many + b"\x00" + data[at:]
    else:
        data = grey_tiff((64, 48), 8, bytes(64 * 48), more=[Tag(324, LONG, [8] * many)])
    assert reason_of(data) == Reason.CORRUPT


def test_only_the_first_frame_is_read() -> None:
    """An animation whose second frame is cut off is judged."""
    for form in ("GIF", "PNG", "WEBP"):
        first = noise(64, 48).convert("P" if form == "GIF" else "RGB")
        second = first.transpose(Image.Transpose.ROTATE_180)
        data = encoded(form, first, save_all=True, append_images=[second])
        kept = {"GIF": -9, "PNG": len(data) * 6 // 10, "WEBP": len(data) * 6 // 10}[form]
        assert open_image(data[:kept]).size == (64, 48)


# Size


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (1, 900), (900, 7)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_an_image_below_the_minimum_size_is_refused(form: str, size: tuple[int, int]) -> None:
    assert reason_of(encoded(form, Image.new("RGB", size))) == Reason.TOO_SMALL
    assert open_image(encoded(form, Image.new("RGB", (MIN_EDGE, MIN_EDGE)))).size == (MIN_EDGE, MIN_EDGE)
    assert open_image(encoded(form, Image.new("RGB", size)), limits=SizeLimits(min_edge=1)).size == size


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["PNG", "TIFF", "GIF"])
def test_the_setting_is_the_only_limit_on_pixels(form: str) -> None:
    """Pillow warns from 89 million pixels on, and refuses above 179 million."""
    image = Image.new("1" if form == "TIFF" else "L", (20_000, 9_500))
    options = {"compression": "group4"} if form == "TIFF" else {}
    data = encoded(form, image, **options)
    del image
    assert open_image(data, limits=SizeLimits(max_pixels=200_000_000)).size == (20_000, 9_500)
    assert reason_of(data) == Reason.TOO_MANY_PIXELS


@pytest.mark.filterwarnings("error")
def test_a_gif_whose_frame_is_larger_than_its_screen() -> None:
    data = encoded("GIF", Image.new("L", (20_000, 9_500)))
    small = data[:6] + struct.pack("<2H", 10, 10) + data[10:]
    assert open_image(small, limits=SizeLimits(max_pixels=200_000_000)).size == (20_000, 9_500)
    assert reason_of(small) == Reason.TOO_MANY_PIXELS


# Files without their end


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}, {"restart_marker_rows": 1}], ids=str
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_marker_is_judged(mode: str, options: dict[str, object]) -> None:
    data = encoded("JPEG", noise(mode=mode), **options)
    for missing in (1, 2):
        assert open_image(data[:-missing]).tobytes() == open_image(data).tobytes()
    for missing in (4, 10, 100, 1000):
        assert reason_of(data[:-missing]) == Reason.CORRUPT


def test_a_progressive_jpeg_without_its_last_scans_lacks_pixels() -> None:
    data = encoded("JPEG", progressive=True)
    places = [at for at in range(len(data)) if data[at : at + 2] in {b"\xff\xda", b"\xff\xc4"}]
    for at in places[3:]:
        assert reason_of(data[:at]) == Reason.CORRUPT


@pytest.mark.parametrize("mode", ["RGB", "P", "I;16"])
def test_a_png_without_its_end_is_judged(mode: str) -> None:
    image = noise(mode="L").convert("I;16") if mode == "I;16" else noise(mode=mode)
    data = encoded("PNG", image)
    for missing in (1, 4, 12, 14, 16):  # without IEND and the checksums of the pixels
        assert open_image(data[:-missing]).tobytes() == open_image(data).tobytes()
    for missing in (60, 1000):
        assert reason_of(data[:-missing]) == Reason.CORRUPT


def test_metadata_at_the_end_may_be_cut_off() -> None:
    webp = encoded("WEBP", exif=b"Exif\x00\x00" + bytes(400), xmp=bytes(400))
    assert open_image(webp[:-500]).tobytes() == open_image(webp).tobytes()
    assert open_image(encoded("GIF", noise(mode="L"))[:-1]).size == (90, 70)


# Reasons


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(40),
        b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(40),
        b"\xff\x0a" + bytes(40),
        b"8BPS\x00\x01" + bytes(64),
        b"\x00\x00\x01\x00\x01\x00\x10\x10" + bytes(64),
        b"qoif" + bytes(64),
        b"v/1\x01" + bytes(64),
        b"P6\n64 48\n255\n" + bytes(64 * 48 * 3),
        b"FUJIFILMCCD-RAW 0201" + bytes(64),
        b"IIRO\x08\x00\x00\x00" + bytes(64),
        b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(64),
        b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01crx isom" + bytes(64),
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64),
        b"\x00" * 128 + b"DICM" + bytes(64),
    ],
)
def test_pictures_of_other_formats(data: bytes) -> None:
    assert reason_of(data) == Reason.UNSUPPORTED_FORMAT


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7 ...", b"BMore text than a bitmap",
        b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(64),
        b"RIFF\x00\x10\x00\x00WAVEfmt " + bytes(64), b"PK\x03\x04" + bytes(64), b"\x1f\x8b\x08" + bytes(64),
    ],
)  # fmt: skip
def test_files_that_are_no_pictures(data: bytes) -> None:
    assert reason_of(data) == Reason.NOT_AN_IMAGE


def test_rare_variants_of_formats_that_are_read() -> None:
    twelve = encoded("JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c", 1)
    hierarchical = encoded("JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc5\x00\x11\x08", 1)
    apple = encoded("PNG")[:8] + struct.pack(">I4sII", 4, b"CgBI", 0, 0) + encoded("PNG")[8:]
    bmp = bytearray(encoded("BMP"))
    bmp[30] = 4  # with a JPEG inside
    tiff = grey_tiff((64, 48), 8, bytes(3072), compression=34712)
    planes = grey_tiff((64, 48), 8, bytes(3072), photometric=9)
    for data in (twelve, hierarchical, apple, bytes(bmp), tiff, planes):
        assert reason_of(data) == Reason.UNSUPPORTED_FORMAT


def test_broken_files_of_formats_that_are_read() -> None:
    for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF"):
        data = encoded(form, noise().convert("P") if form == "GIF" else None)
        assert reason_of(data[:40]) == Reason.CORRUPT
        assert reason_of(data[: len(data) // 2]) == Reason.CORRUPT
    assert reason_of(grey_tiff((64, 48), 8, bytes(100))) == Reason.CORRUPT
    bits, too_many = (struct.pack("<HHI", 258, SHORT, count) for count in (1, 2**20))
    assert reason_of(grey_tiff((64, 48), 8, bytes(3072)).replace(bits, too_many)) == Reason.CORRUPT


@pytest.mark.filterwarnings("ignore")
def test_mutated_files_end_in_a_picture_or_a_reason() -> None:
    report = fuzz(files=500, seed=7)
    # The peak of memory is that of all tests that this process has run.
    assert [fault for fault in report.faults if "resident" not in fault] == []
    assert len(report.outcomes) == 8
    assert all(counts["judged"] for counts in report.outcomes.values())


def test_a_lossless_jpeg_is_read_in_full_size() -> None:
    pixels = np.asarray(noise(1400, 1300))
    data = bytes(imagecodecs.jpeg_encode(pixels, lossless=True, predictor=1))
    assert data.count(b"\xff\xc3")
    opened = open_for(data, decoding=Decoding.REDUCED)
    assert np.array_equal(np.asarray(opened.pixels), pixels)
    assert 1400 * 1300 * 4 < decode_bytes(data) < 1400 * 1300 * 20
    assert reason_of(data[: len(data) // 2]) == Reason.CORRUPT


@pytest.mark.parametrize("compression", [1, 2])
def test_a_run_length_coded_bmp_has_its_own_limit(compression: int) -> None:
    def bmp(width: int, height: int) -> bytes:
        bits, colours = (8, 256) if compression == 1 else (4, 16)
        row = b"\xff\x11" * -(-width // 255) + b"\x00\x00"
        about = struct.pack("<I2i2H6I", 40, width, height, 1, bits, compression, 0, 0, 0, colours, 0)
        start = 14 + len(about) + 4 * colours
        return struct.pack("<2sI4xI", b"BM", 0, start) + about + bytes(4 * colours) + row * height + b"\x00\x01"

    assert open_image(bmp(640, 480)).size == (640, 480)
    assert reason_of(bmp(5000, 2001)) == Reason.UNSUPPORTED_FORMAT
