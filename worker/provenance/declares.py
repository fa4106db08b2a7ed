"""Sums up what a file declares about how its image came to be. A declaration is no proof, and its absence neither.

Vocabulary: https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from worker.provenance.says import C2paState, Declared, Provenance

_BY_TYPE = {
    "trainedAlgorithmicMedia": Declared.GENERATED,
    "trainedAlgorithmicData": Declared.GENERATED,  # of c2pa.org's own vocabulary
    "compositeWithTrainedAlgorithmicMedia": Declared.COMPOSITE,
    "compositeSynthetic": Declared.COMPOSITE,
    "digitalCapture": Declared.CAPTURED,
    "computationalCapture": Declared.CAPTURED,
    "compositeCapture": Declared.CAPTURED,
    "negativeFilm": Declared.CAPTURED,
    "positiveFilm": Declared.CAPTURED,
    "print": Declared.CAPTURED,
    "minorHumanEdits": Declared.CAPTURED,
}
_EDITED = {"humanEdits", "algorithmicallyEnhanced", "screenCapture", "composite"}
"""These say what was done with an image, and not how it came to be: they declare nothing."""
_ORDER = (Declared.GENERATED, Declared.COMPOSITE, Declared.CAPTURED, Declared.OTHER)
_BELIEVED = {C2paState.UNTRUSTED, C2paState.VALID, C2paState.TRUSTED}


def source_types(provenance: Provenance) -> tuple[str, ...]:
    """Returns the digital source types of the manifest, or else that of the IPTC fields.

    An invalid manifest says nothing about this file: its content was changed afterwards.
    """
    credentials, iptc = provenance.credentials, provenance.iptc
    if credentials.state in _BELIEVED and credentials.source_types:
        return credentials.source_types
    return (iptc.source_type,) if iptc.source_type else ()


def declared(provenance: Provenance) -> Declared | None:
    """Returns what the file declares, or None if it declares nothing.

    The manifest comes first, then the IPTC fields, then the parameters of a generator. If a manifest says that one part
    was generated and another part was captured, the image is a composite.
    """
    found = {
        _BY_TYPE.get(name, Declared.OTHER) for one in source_types(provenance) if (name := _name(one)) not in _EDITED
    }
    if {Declared.GENERATED, Declared.CAPTURED} <= found:
        return Declared.COMPOSITE
    if found:
        return next(one for one in _ORDER if one in found)
    iptc = provenance.iptc
    return Declared.GENERATED if provenance.generator or iptc.ai_system or iptc.ai_prompt else None


def _name(source_type: str) -> str:
    return source_type.rstrip("/").rpartition("/")[2]
