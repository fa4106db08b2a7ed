"""Hostile files: the browser gets a JPEG that we made or a reason, and nothing of the file except its pixels."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from producers.web.pictures import Kind
from tests.integration.test_moderate import png
from tests.integration.test_web_pictures import URI, Desk, reason, shown
from worker.database import Database
from worker.settings import Settings
from worker.storage import open_stores

SECRET = b"GPS 52.5 N, written by Anna"


def saved(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


def plain(size: tuple[int, int] = (400, 300), colour: object = "white", mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def bomb() -> bytes:
    """A PNG of a few kilobytes that says it has 30,000 x 30,000 pixels."""
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1_000_000)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(one)) + kind + one + struct.pack(">I", zlib.crc32(kind + one)) for kind, one in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def tagged() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010E] = SECRET.decode()
    return saved(plain(), exif=exif, comment=SECRET, icc_profile=SECRET * 3, dpi=(300, 300))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bomb": (bomb, "too_many_pixels"),
    "huge dimensions": (lambda: saved(plain((20_000, 6_000), 0, "1"), "PNG"), "too_many_pixels"),
    "a cut PNG": (lambda: saved(Image.effect_noise((400, 300), 90), "PNG")[:20_000], "corrupt"),
    "a cut JPEG": (lambda: saved(Image.effect_noise((400, 300), 90))[:300], "corrupt"),
    "SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not_an_image"),
    "HTML": (lambda: b"<!doctype html><script>alert(1)</script>", "not_an_image"),
    "PDF": (lambda: b"%PDF-1.7\n1 0 obj\n", "not_an_image"),
    "a zip": (lambda: b"PK\x03\x04" + b"\0" * 100, "not_an_image"),
    "the first bytes of a JPEG": (lambda: b"\xff\xd8\xff", "corrupt"),
}
SHOWN: dict[str, Callable[[], bytes]] = {
    "HTML in a GIF": lambda: saved(plain(), "GIF", comment=b"*/<script>alert(1)</script>"),
    "HTML behind a JPEG": lambda: saved(plain()) + b"<script>alert(1)</script>",
    "a zip behind a PNG": lambda: png("white") + b"PK\x03\x04<script>",
    "animated": lambda: saved(plain(), "GIF", save_all=True, append_images=[plain(colour="black")]),
    "CMYK": lambda: saved(plain(colour=(0, 0, 0, 0), mode="CMYK")),
    "16 bits": lambda: saved(plain(colour=65535, mode="I;16"), "PNG"),
    "with alpha": lambda: saved(plain(colour=(255, 255, 255, 255), mode="RGBA"), "PNG"),
    "a palette": lambda: saved(plain().convert("P"), "PNG"),
    "a strip": lambda: saved(plain((3000, 8)), "PNG"),
    "tiny": lambda: saved(plain((1, 1)), "PNG"),
    "tagged": tagged,
}


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database, {})


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_cannot_be_shown_has_a_reason(desk: Desk, what: str) -> None:
    make, expected = REFUSED[what]
    data = desk.store.objects[URI] = make()
    assert reason(desk.get(data)) == (422, expected)


@pytest.mark.parametrize("what", SHOWN)
def test_only_pixels_are_shown(desk: Desk, what: str) -> None:
    data = desk.store.objects[URI] = SHOWN[what]()
    for kind in Kind:
        answer = desk.get(data, kind=kind)
        assert answer.status_code == 200, answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        image = shown(answer)
        assert image.mode == "RGB"
        assert max(image.size) <= 1600
        assert min(image.convert("L").tobytes()) > 240, "white, as the first frame is"
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}, "no metadata"
        assert b"script" not in answer.content
        assert SECRET not in answer.content


def test_a_picture_is_upright(desk: Desk) -> None:
    data = desk.store.objects[URI] = tagged()
    assert shown(desk.get(data)).size == (300, 400)


def test_a_large_picture_is_made_smaller(desk: Desk) -> None:
    data = desk.store.objects[URI] = saved(plain((4000, 1000)), "PNG")
    assert shown(desk.get(data)).size == (1600, 400)


def text(word: str, size: tuple[int, int] = (1200, 900)) -> Image.Image:
    image = plain(size)
    draw = ImageDraw.Draw(image)
    for row in range(0, size[1], 12):
        draw.text((0, row), word * 200, fill="black")
    return image


@pytest.mark.parametrize("kind", [Kind.BLURRED, Kind.SMALL_BLURRED])
def test_a_blurred_picture_holds_no_detail(desk: Desk, kind: Kind) -> None:
    """It has no more detail than 4 x 4 fields of one colour each, so two texts of the same grey look the same."""
    pictures = []
    for word in ("MW", "WM"):
        data = desk.store.objects[URI] = saved(text(word), "PNG")
        pictures.append(shown(desk.get(data, kind=kind)).convert("L"))
        clear = shown(desk.get(data)).convert("L")
        assert clear.getextrema() == (0, 255), "the clear picture shows it"
    one, other = pictures
    fields = one.resize((4, 3), Image.Resampling.BOX).resize(one.size, Image.Resampling.BICUBIC)
    assert furthest(one, fields) < 12
    assert furthest(one, other) < 12


def face() -> Image.Image:
    """A face that fills the picture: eyes, a nose and a mouth."""
    image = plain((1200, 900), "#e0b090")
    draw = ImageDraw.Draw(image)
    for left in (330, 720):
        draw.ellipse((left, 280, left + 150, 380), "black")
    draw.rectangle((580, 420, 620, 560), "#805030")
    draw.rectangle((400, 660, 800, 740), "#701020")
    return image


@pytest.mark.parametrize("kind", [Kind.BLURRED, Kind.SMALL_BLURRED])
def test_a_blurred_face_has_no_eyes(desk: Desk, kind: Kind) -> None:
    """Its eyes have the same shade as what is between them."""
    data = desk.store.objects[URI] = saved(face(), "PNG")
    found = shown(desk.get(data, kind=kind)).convert("L").resize((1200, 900))
    left, between, right = (found.crop((x - 30, 300, x + 30, 360)).tobytes() for x in (405, 600, 795))
    means = [sum(one) / len(one) for one in (left, between, right)]
    assert max(means) - min(means) < 12


def furthest(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of two grey pictures at one pixel."""
    return max(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True))


def test_buckets_and_folders_that_are_not_allowed(database: Database, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    data = png("white")
    for place in ("open/a.png", "b.png"):
        (tmp_path / place).write_bytes(data)
    (tmp_path / "open" / "link.png").symlink_to(tmp_path / "b.png")
    given = Settings(allowed_buckets=("photos",), allowed_folders=(str(tmp_path / "open"),))
    desk = Desk(database, {})
    shut = Desk(database, {}, store=open_stores(given))
    assert shut.get(data, f"file://{tmp_path}/b.png").headers["x-reason"] == "access_denied"
    assert shut.get(data, f"file://{tmp_path}/open/link.png").headers["x-reason"] == "access_denied"
    assert shut.get(data, f"file://{tmp_path}/open/../b.png").headers["x-reason"] == "access_denied"
    assert shut.get(data, "s3://private/a.png").headers["x-reason"] == "access_denied"
    assert shut.get(data, f"file://{tmp_path}/open/a.png").status_code == 200
    assert desk.get(data).headers["x-reason"] == "not_found"


def test_an_address_expires(database: Database) -> None:
    import time

    from tests.desk import settings

    data = png("white")
    desk = Desk(database, {URI: data}, settings=settings(picture_ttl_s=1))
    from producers.web.pictures import address
    from tests.integration.test_web_pictures import HERON, sha256

    own = address(desk.parts, HERON, sha256(data), URI, Kind.CLEAR)
    assert desk.client.get(own).status_code == 200
    time.sleep(2.1)
    assert reason(desk.client.get(own)) == (410, "address_expired")


def test_nothing_waits_for_a_storage_that_hangs(database: Database) -> None:
    """The request is answered, other pictures are shown, and the app's threads stay free."""
    import threading

    from producers.web.pictures import Pictures
    from worker.messages import ImageRef

    go_on = threading.Event()
    data = png("white")

    class Hanging:
        def fetch(self, ref: ImageRef) -> bytes:
            if ref.uri.endswith("hangs.jpg"):
                go_on.wait(30)
            return data

    desk = Desk(database, {}, store=Hanging())
    desk.app.state.pictures = Pictures(desk.parts, wait_s=0.3)
    other = png("black")
    assert reason(desk.get(other, "s3://photos/hangs.jpg")) == (503, "storage_unavailable")
    assert desk.get(data).status_code == 200
    go_on.set()
