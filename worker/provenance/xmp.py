"""Reads the properties of an XMP packet (ISO 16684-1) that are about origin."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_PACKET = 2**20
"""Bytes of the longest packet that is read."""

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_EXT = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
SOURCE_TYPE = _EXT + "DigitalSourceType"
OLD_SOURCE_TYPE = _EXT + "DigitalSourcefileType"
AI_SYSTEM = _EXT + "AISystemUsed"
AI_SYSTEM_VERSION = _EXT + "AISystemVersionUsed"
AI_PROMPT = _EXT + "AIPromptInformation"
AI_PROMPT_WRITER = _EXT + "AIPromptWriterName"
CREDIT = "{http://ns.adobe.com/photoshop/1.0/}Credit"
CREATOR_TOOL = "{http://ns.adobe.com/xap/1.0/}CreatorTool"
DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
MAKE, MODEL = "{http://ns.adobe.com/tiff/1.0/}Make", "{http://ns.adobe.com/tiff/1.0/}Model"


def properties(packet: bytes) -> dict[str, str]:
    """Returns the texts of a packet by the full name of their property, such as SOURCE_TYPE.

    Of a list, the first text is taken. Raises ValueError if the packet is not XML, too long, or defines entities.
    """
    if len(packet) > MAX_PACKET:
        raise ValueError(f"the XMP packet has {len(packet)} bytes, and {MAX_PACKET} are allowed")
    try:
        root = fromstring(packet.strip(b"\x00 \t\r\n"), forbid_dtd=True)
    except (ParseError, DefusedXmlException, LookupError) as error:
        raise ValueError(f"the XMP packet cannot be read: {error or type(error).__name__}") from None
    found: dict[str, str] = {}
    for name, text in _texts(root):
        found.setdefault(name, text)
    return found


def _texts(root: "Element") -> Iterator[tuple[str, str]]:
    for description in root.iter(_RDF + "Description"):
        yield from description.attrib.items()
        for one in description:
            text = one.get(_RDF + "resource") or _first_text(one)
            if text:
                yield one.tag, text


def _first_text(element: "Element") -> str:
    """Returns the first text in a property: its own, or that of the first item of its list."""
    return next((text.strip() for text in element.itertext() if text.strip()), "")
