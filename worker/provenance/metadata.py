"""Reads what a file holds beside its pixels: EXIF, XMP, IPTC and texts. Decodes no pixels."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pillow_heif
from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

from worker.provenance import xmp
from worker.provenance.says import Camera, Iptc, text_of

_XMP_TAG, _XMP_TEXT = 700, "XML:com.adobe.xmp"
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
        """Returns IPTC's fields. Where XMP and the IPTC block both have a field, XMP is newer."""
        got = self.properties.get
        return Iptc(
            source_type=text_of(got(xmp.SOURCE_TYPE) or got(xmp.OLD_SOURCE_TYPE)),
            credit=text_of(got(xmp.CREDIT) or _first(self.blocks.get(_CREDIT))),
            ai_system=text_of(got(xmp.AI_SYSTEM)),
            ai_system_version=text_of(got(xmp.AI_SYSTEM_VERSION)),
            ai_prompt=text_of(got(xmp.AI_PROMPT)),
            ai_prompt_writer=text_of(got(xmp.AI_PROMPT_WRITER)),
        )

    def program(self) -> str | None:
        """Returns the program that wrote the file, as EXIF, XMP, PNG or the IPTC block names it."""
        names = (self.exif.get("Software"), self.properties.get(xmp.CREATOR_TOOL), self.texts.get("Software"),
                 _first(self.blocks.get(_PROGRAM)))  # fmt: skip
        return next((text for name in names if (text := text_of(name))), None)


def read_metadata(data: bytes, kind: str) -> tuple[Metadata, Image.Image | None]:
    """Returns the metadata of a file of this format, one of worker.images.FORMATS, and Pillow's image of it.

    Raises nothing: `faults` names what could not be read. The image is None if Pillow cannot open the file.
    """
    found = Metadata()
    _know_heif()
    try:
        image = Image.open(io.BytesIO(data), formats=(kind,))
    except Exception as error:  # noqa: BLE001 - the file is a stranger's, and libraries raise anything
        found.faults.append(_fault("file", error))
        return found, None
    found.texts = {str(key): str(value) for key, value in image.info.items() if isinstance(value, str)}
    for name, read in _READERS.items():
        try:
            read(image, found)
        except Exception as error:  # noqa: BLE001 - the file is a stranger's, and libraries raise anything
            found.faults.append(_fault(name, error))
    return found, image


def _fault(name: str, error: BaseException) -> str:
    return f"{name}: {text_of(error) or type(error).__name__}"[:200]


@cache
def _know_heif() -> None:
    pillow_heif.register_heif_opener(thumbnails=False)


def _read_exif(image: Image.Image, found: Metadata) -> None:
    exif = image.getexif()
    for tag, value in {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}.items():
        found.exif[ExifTags.TAGS.get(tag, str(tag))] = value


def _read_xmp(image: Image.Image, found: Metadata) -> None:
    packet = image.info.get("xmp") or image.info.get(_XMP_TEXT) or image.getexif().get(_XMP_TAG)
    if isinstance(packet, tuple):  # TIFF may store it as numbers
        packet = bytes(packet)
    if isinstance(packet, str):
        packet = packet.encode()
    if packet:
        found.properties = xmp.properties(packet)


def _read_blocks(image: Image.Image, found: Metadata) -> None:
    if isinstance(image, ImageFile.ImageFile):
        found.blocks = IptcImagePlugin.getiptcinfo(image) or {}


_READERS: Mapping[str, Callable[[Image.Image, Metadata], None]] = {
    "exif": _read_exif,
    "xmp": _read_xmp,
    "iptc": _read_blocks,
}


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else value
