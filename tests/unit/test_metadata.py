"""Metadata in an image file: it never makes a picture fail, and it says how the picture is turned."""

import io
import os
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.tiffs import LONG, SHORT, Tag, directory, exif, grey_tiff, header
from worker.images import open_image
from worker.images.boxes import without_descriptions
from worker.images.heif import HeifFile

SIZE = (64, 48)
TURNED = (48, 64)
ORIENTATION = Tag(0x0112, SHORT, [6])
GPS = Tag(0x8825, LONG, [38])
MISTYPED = {
    "a negative altitude": Tag(6, 10, [-5, 1]),
    "a latitude as text": Tag(2, 2, list(b"48.1234\0")),
    "a version as text": Tag(0, 2, list(b"2200")),
    "a reference as a ratio": Tag(1, 5, [1, 1]),
    "a ratio with denominator 0": Tag(2, 5, [1, 0]),
    "a number of an impossible size": Tag(2, 5, [1, 1], count=2**31),
}


def encoded(form: str, image: Image.Image | None = None, **options: object) -> bytes:
    target = io.BytesIO()
    (image or Image.new("RGB", SIZE, "red")).save(target, form, **options)
    return target.getvalue()


def jpeg_with(*segments: tuple[int, bytes], data: bytes | None = None) -> bytes:
    jpeg = data or encoded("JPEG")
    added = b"".join(bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body for kind, body in segments)
    return jpeg[:2] + added + jpeg[2:]


def png_with(*chunks: tuple[bytes, bytes], checksum: int | None = None, at: int = 33) -> bytes:
    png = encoded("PNG")
    added = b"".join(
        struct.pack(">I", len(body)) + kind + body
        + struct.pack(">I", zlib.crc32(kind + body) if checksum is None else checksum)
        for kind, body in chunks
    )  # fmt: skip
    return png[:at] + added + png[at:]


def webp_with(exif_block: bytes = b"", xmp: bytes = b"") -> bytes:
    return encoded("WEBP", exif=exif_block, xmp=xmp)


def avif_with(block: bytes) -> bytes:
    """Returns an AVIF whose file turns the picture, with `block` as its EXIF. Pillow itself writes no mistyped tags."""
    written = Image.Exif()
    written[0x010F] = "m" * 300
    stored = written.tobytes()[6:]
    written[0x0112] = 6
    data = encoded("AVIF", exif=written, speed=10)
    assert stored in data
    return data.replace(stored, block[6:].ljust(len(stored), b"\x00"))


def camera(entry: Tag) -> bytes:
    """Returns an EXIF block that turns the picture, with one entry in its GPS directory."""
    return exif(ORIENTATION, GPS) + directory(38, [entry])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("name", MISTYPED)
def test_a_mistyped_tag_changes_neither_the_picture_nor_its_orientation(form: str, name: str) -> None:
    block = camera(MISTYPED[name])
    made = {"JPEG": lambda: jpeg_with((0xE1, block)), "AVIF": lambda: avif_with(block)}
    data = made[form]() if form in made else encoded(form, exif=block)
    assert open_image(data).size == TURNED


def test_an_avif_is_turned_by_the_file_and_not_by_another_exif() -> None:
    """Pillow writes the EXIF again in this case, and fails on mistyped tags."""
    for entry in MISTYPED.values():
        block = exif(Tag(0x0112, SHORT, [1]), GPS) + directory(38, [entry])
        assert open_image(avif_with(block)).size == TURNED


@pytest.mark.parametrize("entry", MISTYPED.values(), ids=MISTYPED)
def test_mistyped_tags_of_a_tiff(entry: Tag) -> None:
    place = 4000
    more = [Tag(0x0112, SHORT, [6]), Tag(282, 2, list(b"no resolution\0")), Tag(270, 2, [65, 0], count=2**30),
            Tag(700, 12, [1.5]), Tag(0x8825, LONG, [place])]  # fmt: skip
    pixels = bytes(range(256)) * 12
    data = grey_tiff(SIZE, 8, pixels, more=more).ljust(place, b"\x00") + directory(place, [entry])
    assert open_image(data).size == TURNED


@pytest.mark.parametrize("kind", [1, SHORT, LONG, 9, 5])
@pytest.mark.parametrize("order", "<>")
def test_the_orientation_may_have_any_numeric_type(kind: int, order: str) -> None:
    values = [6, 1] if kind == 5 else [6]
    assert open_image(jpeg_with((0xE1, exif(Tag(0x0112, kind, values), order=order)))).size == TURNED


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_invalid_orientation_is_ignored(value: int) -> None:
    assert open_image(jpeg_with((0xE1, exif(Tag(0x0112, SHORT, [value]))))).size == SIZE


@pytest.mark.parametrize("block", [b"", b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"x" * 60_000])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_broken_metadata_is_ignored(block: bytes, form: str) -> None:
    data = {
        "JPEG": lambda: jpeg_with((0xE1, block), (0xE2, b"ICC_PROFILE\0" + block[:50_000]), (0xED, block)),
        "PNG": lambda: png_with((b"eXIf", block), (b"iCCP", block), (b"iTXt", block), (b"pHYs", b""), (b"sRGB", b"")),
        "WEBP": lambda: webp_with(block or b"x", block or b"x"),
    }[form]()
    assert open_image(data).size == SIZE


def test_xmp_is_used_if_the_exif_has_no_orientation() -> None:
    xmp = b'<x tiff:Orientation="8"/>'
    app1 = (0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + xmp)
    assert open_image(jpeg_with(app1)).size == TURNED
    assert open_image(jpeg_with(app1, (0xE1, exif(Tag(0x0112, SHORT, [1]))))).size == SIZE
    assert open_image(webp_with(xmp=xmp)).size == TURNED
    for body in (b"XML:com.adobe.xmp\0\0\0\0\0" + xmp, b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)):
        assert open_image(png_with((b"iTXt", body))).size == TURNED
    tiff = grey_tiff(SIZE, 8, bytes(64 * 48), more=[Tag(700, 1, list(xmp))])
    assert open_image(tiff).size == TURNED


def test_a_png_may_have_its_orientation_as_text_and_after_the_pixels() -> None:
    block = exif(ORIENTATION)
    raw = b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(block), block.hex().encode())
    end = len(encoded("PNG")) - 12
    assert open_image(png_with((b"tEXt", raw))).size == TURNED
    packed = b"Raw profile type exif\0\0" + zlib.compress(raw.partition(b"\0")[2])
    assert open_image(png_with((b"zTXt", packed), at=end)).size == TURNED
    assert open_image(png_with((b"eXIf", block[6:]), at=end)).size == TURNED


@pytest.mark.parametrize(
    "chunk",
    [
        (b"iCCP", b"profile\0\0" + zlib.compress(os.urandom(1_200_000))),
        (b"iCCP", b"profile\0\7not deflate"),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 1_500_000)),
        (b"zTXt", b"Comment\0\x09" + b"A" * 99),
        (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"A" * 80_000_000)),
        (b"tEXt", b"parameters\0" + b"A" * 3_000_000),
        (b"tRNS", b"\0"),
        (b"acTL", b""),
        (b"fcTL", bytes(26)),
    ],
)
def test_large_and_broken_chunks_of_a_png(chunk: tuple[bytes, bytes]) -> None:
    assert open_image(png_with(chunk)).size == SIZE
    assert open_image(png_with(chunk, checksum=7)).size == SIZE, "a checksum of what is not needed"


def test_metadata_that_changes_pixels_is_used() -> None:
    """Adobe's segment says how CMYK is stored. A palette says what the numbers in a PNG mean."""
    colours = np.random.default_rng(1).integers(0, 256, (48, 64, 4), dtype=np.uint8)
    for form, mode in (("JPEG", "CMYK"), ("PNG", "P"), ("GIF", "P"), ("TIFF", "P")):
        image = Image.fromarray(colours, "RGBA").convert("RGB").convert(mode)
        data = encoded(form, image)
        with Image.open(io.BytesIO(data)) as plain:
            assert open_image(data).tobytes() == plain.convert("RGB").tobytes()


def test_heic_is_turned_once_by_the_file_and_not_by_its_exif() -> None:
    image = Image.new("RGB", SIZE, "red")
    image.paste("blue", (0, 0, 64, 24))
    target = io.BytesIO()
    pillow_heif.from_pillow(image).save(target, exif=exif(ORIENTATION), quality=95)  # pillow_heif writes irot
    data = target.getvalue()
    assert b"irot" in data
    opened = open_image(data)
    assert opened.size == TURNED
    assert opened.getpixel((40, 30)) == pytest.approx((0, 0, 255), abs=12)  # the upper half is now on the right
    for broken in (data.replace(b"MM\0*", b"XX\0*"), data.replace(b"II*\0", b"XX*\0"), data.replace(b"cdsc", b"free")):
        assert open_image(broken).size == TURNED


def test_decoders_of_heic_and_avif_get_no_metadata() -> None:
    target = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", SIZE, "red")).save(target, exif=exif(ORIENTATION))
    for data in (target.getvalue(), avif_with(exif(ORIENTATION))):
        bare = without_descriptions(data)
        assert b"cdsc" in data
        assert b"cdsc" not in bare
        assert len(bare) == len(data)
        assert open_image(bare).tobytes() == open_image(data).tobytes()
    data = target.getvalue()
    assert pillow_heif.open_heif(data).info["exif"]
    assert not HeifFile(io.BytesIO(without_descriptions(data))).primary.info["exif"]


def test_the_prefix_of_an_exif_block() -> None:
    """The prefix of an EXIF block may be there once, twice or not at all."""
    block = header() + directory(8, [ORIENTATION])
    for prefix in (b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"):
        assert open_image(webp_with(prefix + block)).size == TURNED


def test_only_the_formats_own_metadata_turns_a_picture() -> None:
    block, xmp = exif(ORIENTATION), b'<x tiff:Orientation="6"/>'
    for marker in (0xFE, 0xE2, 0xED, 0xEF):
        assert open_image(jpeg_with((marker, block))).size == SIZE
    for flag, data in ((0x08, webp_with(exif_block=block)), (0x04, webp_with(xmp=xmp))):
        at = data.index(b"VP8X") + 8
        assert data[at] == flag
        assert open_image(data).size == TURNED
        assert open_image(data[:at] + bytes([data[at] & ~flag]) + data[at + 1 :]).size == SIZE
    simple = encoded("WEBP")
    assert b"VP8X" not in simple
    assert open_image(simple + b"EXIF" + struct.pack("<I", len(block)) + block + bytes(len(block) % 2)).size == SIZE


def test_an_avif_is_turned_by_the_file_only() -> None:
    assert open_image(encoded("AVIF", xmp=b'<x tiff:Orientation="6"/>', speed=10)).size == SIZE
    written = Image.Exif()
    written[0x010F] = "m" * 300
    data = encoded("AVIF", exif=written, speed=10)
    stored = written.tobytes()[6:]
    assert open_image(data.replace(stored, exif(ORIENTATION)[6:].ljust(len(stored), b"\x00"))).size == SIZE
