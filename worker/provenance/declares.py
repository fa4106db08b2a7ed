"""Sums up what a file declares about how its image came to be. A declaration is no proof, and its absence neither.

Vocabulary: https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from collections.abc import Iterator

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
_ORDER = (Declared.GENERATED, Declared.COMPOSITE, Declared.CAPTURED, Declared.OTHER)
_BELIEVED = {C2paState.UNTRUSTED, C2paState.VALID, C2paState.TRUSTED}
"""A manifest whose content was changed afterwards declares nothing about this file."""


def declared(provenance: Provenance) -> Declared | None:
    """Returns what the file declares, or None if it declares nothing. If it declares several things, the first of
    generated, composite, captured and other is returned.

    If a manifest says that a part was generated and another part was captured, the image is a composite.
    """
    found = set(_found(provenance))
    parts = {_declared_by(one) for one in _types(provenance)}
    if {Declared.GENERATED, Declared.CAPTURED} <= parts and provenance.generator is None:
        return Declared.COMPOSITE
    return next((one for one in _ORDER if one in found), None)


def _found(provenance: Provenance) -> Iterator[Declared]:
    for one in _types(provenance):
        yield _declared_by(one)
    if provenance.generator or provenance.iptc.ai_system or provenance.iptc.ai_prompt:
        yield Declared.GENERATED


def _types(provenance: Provenance) -> Iterator[str]:
    if provenance.credentials.state in _BELIEVED:
        yield from provenance.credentials.source_types
    if provenance.iptc.source_type:
        yield provenance.iptc.source_type


def _declared_by(source_type: str) -> Declared:
    return _BY_TYPE.get(source_type.rstrip("/").rpartition("/")[2], Declared.OTHER)
