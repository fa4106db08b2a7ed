"""Files with a part that comes twice, comes too late, or is outside the picture."""

import io
import struct
import zlib

import pytest
from PIL import Image

from worker.errors import ImageError, Reason
from worker.images import SizeLimits, open_image


def encoded(form: str, image: Image.Image, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_the_first_header_and_palette_of_a_png_count() -> None:
    image = Image.linear_gradient("L").resize((64, 48)).convert("P")
    data = encoded("PNG", image)
    header, palette = chunk(b"IHDR", struct.pack(">2I5B", 48, 64, 8, 3, 0, 0, 0)), chunk(b"PLTE", bytes(768))
    pixels = data.index(b"IDAT") - 4
    for at in (pixels, len(data) - 12):
        for late in (header, palette):
            assert open_image(data[:at] + late + data[at:]).tobytes() == open_image(data).tobytes()


def animation(canvas: tuple[int, int], frame: tuple[int, int], place: tuple[int, int] = (0, 0)) -> bytes:
    """Returns a WebP with one frame, which has its own size and place."""

    def part(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)

    def short(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(3, "little") for number in numbers)

    still = encoded("WEBP", Image.new("RGB", frame, "red"), quality=50)[12:]
    head = part(b"VP8X", b"\x02\x00\x00\x00" + short(canvas[0] - 1, canvas[1] - 1)) + part(b"ANIM", bytes(6))
    about = short(place[0] // 2, place[1] // 2, frame[0] - 1, frame[1] - 1, 100) + b"\x00"
    body = b"WEBP" + head + part(b"ANMF", about + still)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_a_frame_of_a_webp_must_be_on_its_canvas() -> None:
    assert open_image(animation((64, 48), (32, 24), (32, 24))).size == (64, 48)
    for data in (animation((64, 48), (66, 48)), animation((64, 48), (32, 24), (34, 24))):
        with pytest.raises(ImageError) as caught:
            open_image(data)
        assert caught.value.reason == Reason.CORRUPT
    with pytest.raises(ImageError) as caught:
        open_image(animation((16, 16), (400, 300)), limits=SizeLimits(max_pixels=100_000))
    assert caught.value.reason == Reason.TOO_MANY_PIXELS
