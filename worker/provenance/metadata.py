"""Reads what a file holds beside its pixels: EXIF, XMP, IPTC and texts. Decodes no pixels."""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pillow_heif
from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

from worker.images.png import texts_and_exif
from worker.images.webp import chunks
from worker.provenance import xmp
from worker.provenance.says import MAX_PROMPT, Camera, Iptc, text_of

_XMP_TAG, _XMP_TEXT = 700, "XML:com.adobe.xmp"
_COMMENT = "UserComment"
_ENCODINGS = {b"ASCII\x00\x00\x00": ("utf-8",), b"UNICODE\x00": ("utf-16-be", "utf-16-le"), bytes(8): ("utf-8",)}
"""How EXIF 3.0 marks the encoding of a comment. UNICODE does not say the order of its bytes."""
_CREDIT, _PROGRAM = (2, 110), (2, 65)
"""Datasets of the IPTC Information Interchange Model, version 4.2: Credit, and Originating Program."""


@dataclass
class Metadata:
    """`exif` by the names of its tags, `properties` of XMP by their full names, `texts` of PNG by their keys."""

    exif: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    blocks: dict[tuple[int, int], Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def camera(self) -> Camera | None:
        """Returns the camera that EXIF or XMP names."""
        make = text_of(self.exif.get("Make") or self.properties.get(xmp.MAKE))
        return Camera(make, text_of(self.exif.get("Model") or self.properties.get(xmp.MODEL))) if make else None

    def iptc(self) -> Iptc:
        """Returns IPTC's fields. If XMP and the IPTC block both have a field, XMP is newer."""
        got = self.properties.get
        return Iptc(
            source_type=text_of(got(xmp.SOURCE_TYPE) or got(xmp.OLD_SOURCE_TYPE)),
            credit=text_of(got(xmp.CREDIT) or _first(self.blocks.get(_CREDIT))),
            ai_system=text_of(got(xmp.AI_SYSTEM)),
            ai_system_version=text_of(got(xmp.AI_SYSTEM_VERSION)),
            ai_prompt=text_of(got(xmp.AI_PROMPT), MAX_PROMPT),
            ai_prompt_writer=text_of(got(xmp.AI_PROMPT_WRITER)),
        )

    def programs(self) -> list[str]:
        """Returns the programs that wrote the file, as EXIF, XMP, PNG and the IPTC block name them."""
        names = (self.exif.get("Software"), self.properties.get(xmp.CREATOR_TOOL), self.texts.get("Software"),
                 self.texts.get("Source"), _first(self.blocks.get(_PROGRAM)))  # fmt: skip
        return [text for name in names if (text := text_of(name))]

    def comment(self) -> str | None:
        """Returns EXIF's UserComment, into which programs write their parameters."""
        value = self.exif.get(_COMMENT)
        if not isinstance(value, bytes):
            return None
        texts = [value[8:].decode(one, "replace") for one in _ENCODINGS.get(value[:8], ())]
        return min(texts, key=lambda text: sum(not one.isascii() for one in text), default=None)


def read_metadata(data: bytes, kind: str) -> Metadata:
    """Returns the metadata of a file of this format, one of worker.images.FORMATS.

    Raises nothing: `faults` names what could not be read. Files come from strangers, and libraries raise anything.
    """
    found = Metadata()
    read: Callable[[bytes, str, Metadata], None] = _READERS.get(kind, _read_with_pillow)
    try:
        read(data, kind, found)
    except Exception as error:  # noqa: BLE001 - see above
        found.faults.append(fault("file", error))
    return found


def fault(name: str, error: BaseException) -> str:
    """Returns one short line about a part that could not be read."""
    return f"{name}: {text_of(error) or type(error).__name__}"


def _read_png(data: bytes, _kind: str, found: Metadata) -> None:
    found.texts, exif = texts_and_exif(data)
    _take(found, _exif(exif) if exif else None, found.texts.get(_XMP_TEXT, "").encode())


def _read_webp(data: bytes, _kind: str, found: Metadata) -> None:
    parts: dict[bytes, bytes] = {}
    for name, body in chunks(memoryview(data), 12):
        if name in {b"EXIF", b"XMP "}:
            parts.setdefault(name, bytes(body))
    _take(found, _exif(parts[b"EXIF"]) if b"EXIF" in parts else None, parts.get(b"XMP "))


def _exif(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(data)
    return exif


def _read_with_pillow(data: bytes, kind: str, found: Metadata) -> None:
    _know_heif()
    with Image.open(io.BytesIO(data), formats=(kind,)) as image:
        exif = image.getexif()
        packet = image.info.get("xmp") or exif.get(_XMP_TAG)
        _take(found, exif, bytes(packet) if isinstance(packet, tuple) else packet)  # TIFF may store it as numbers
        if isinstance(image, ImageFile.ImageFile):
            found.blocks = IptcImagePlugin.getiptcinfo(image) or {}


_READERS: Mapping[str, Callable[[bytes, str, Metadata], None]] = {"PNG": _read_png, "WEBP": _read_webp}
"""Pillow decodes pixels to open these two, or to find their EXIF."""


@cache
def _know_heif() -> None:
    pillow_heif.register_heif_opener(thumbnails=False)


def _take(found: Metadata, exif: Image.Exif | None, packet: bytes | None) -> None:
    """Takes the tags and the properties. A fault in one of them does not hide the other."""
    try:
        found.exif = dict(_tags(exif)) if exif is not None else {}
    except Exception as error:  # noqa: BLE001 - see read_metadata
        found.faults.append(fault("exif", error))
    try:
        found.properties = xmp.properties(packet) if packet else {}
    except ValueError as error:
        found.faults.append(fault("xmp", error))


def _tags(exif: Image.Exif) -> Iterator[tuple[str, Any]]:
    for tag, value in {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}.items():
        yield ExifTags.TAGS.get(tag, str(tag)), value


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else value
