"""Reads C2PA manifests with c2pa-python, which wraps the reference implementation c2pa-rs. Uses no network.

Specification: https://spec.c2pa.org/specifications/specifications/2.2/specs/C2PA_Specification.html
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import c2pa

from worker.provenance.says import C2paState, Credentials, text_of
from worker.provenance.trust import TrustList

_OFFLINE = {"remote_manifest_fetch": False, "ocsp_fetch": False}
_REMOTE = "Remote:"
"""c2pa-python raises an error that begins like this when a file only names the address of its manifest."""
_UNTRUSTED, _TRUSTED = "signingCredential.untrusted", "signingCredential.trusted"
_OTHERS = ("cawg.", "timeStamp.untrusted")
"""Codes about a further identity in the manifest (by the Creator Assertions Working Group), and about who made the time
stamp. They say nothing about who signed the manifest.
"""
_BOX, _LABEL = b"jumb", b"c2pa."
"""The type of the boxes that hold a manifest, and the beginning of the names in it (ISO 19566-5)."""
_MAX_LISTED = 10
_MAX_DEPTH = 20
_ACTIONS = ("c2pa.actions", "c2pa.actions.v2")
_INPUT = "inputTo"
"""What was only given to a generator, such as a model or a picture to begin with, is no part of the image."""
_MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "TIFF": "image/tiff",
         "AVIF": "image/avif", "HEIF": "image/heif"}  # fmt: skip

Json = Mapping[str, Any]


class CredentialsReader:
    """Reads manifests against the trust lists. Making one parses the lists, so it is made once per process.

    Without any list, no signer is refused: then an intact manifest is `valid`.
    """

    def __init__(self, lists: Iterable[TrustList]) -> None:
        anchors = [
            {"trust_anchors": one.certificates, "trust_uri": one.name, "trust_kind": one.kind.value} for one in lists
        ]
        verify = {**_OFFLINE, "verify_trust": bool(anchors)}
        self._context = c2pa.Context.from_dict({"verify": verify, "trust": {"anchors": anchors}})

    def read(self, data: bytes, kind: str) -> Credentials:
        """Returns the manifest in a file of this format, one of worker.images.FORMATS. Raises nothing."""
        if kind not in _MIME:
            return Credentials()
        try:
            reader = c2pa.Reader.try_create(_MIME[kind], io.BytesIO(data), context=self._context)
            if reader is None:
                return _unreadable("the manifest is damaged") if _is_marked(data) else Credentials()
            with reader:
                return credentials_of(json.loads(reader.json()))
        except c2pa.C2paError as error:
            return _unreadable(str(error))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return _unreadable(f"{type(error).__name__}: {error}")


def _is_marked(data: bytes) -> bool:
    """Whether the bytes contain a manifest, or what is left of one that was damaged."""
    return _BOX in data and _LABEL in data


def _unreadable(message: str) -> Credentials:
    if message.startswith(_REMOTE):
        address = message.rpartition(" ")[2]
        return Credentials(C2paState.REMOTE, detail=text_of(address))
    return Credentials(C2paState.UNREADABLE, detail=text_of(message))


def credentials_of(store: Json) -> Credentials:
    """Returns what the JSON of c2pa's Reader says. Raises KeyError, TypeError or AttributeError on another shape."""
    results = store["validation_results"]
    active = store["manifests"][store["active_manifest"]]
    signature = active.get("signature_info") or {}
    chain = list(_chain(store["manifests"], active))
    actions = [action for manifest in chain for action in _actions(manifest)]
    return Credentials(
        state_of(results),
        signer=text_of(signature.get("issuer") or signature.get("common_name")),
        claim_generator=text_of(_generator(active)),
        actions=_few(one.get("action") for one in actions),
        source_types=_few(one.get("digitalSourceType") for one in actions),
        software=_few(_name(one.get("softwareAgent")) for one in actions),
        codes=_few(_codes(results, chain)),
        trust_list=text_of(results.get("trustListUri")),
    )


def state_of(results: Json) -> C2paState:
    """Returns the state that validation results lead to, by their codes (C2PA 2.2, section 15.2.2).

    The active manifest alone decides. Any failure makes it invalid, unknown codes included. But failures about trust do
    not: an untrusted signer makes it untrusted, and a further identity or the maker of a time stamp change nothing.
    Otherwise it is trusted if the signer is on a trust list, and valid if no list was asked.
    """
    active = results["activeManifest"]
    failures = {code for code in _failures(active) if not code.startswith(_OTHERS)}
    if failures - {_UNTRUSTED}:
        return C2paState.INVALID
    if failures:
        return C2paState.UNTRUSTED
    is_listed = any(one["code"] == _TRUSTED for one in active["success"])
    return C2paState.TRUSTED if is_listed else C2paState.VALID


def _failures(results: Json) -> list[str]:
    return [one["code"] for one in results.get("failure") or ()]


def _codes(results: Json, chain: Iterable[Json]) -> Iterator[str]:
    """Yields the codes of all failures: those of the active manifest, those that its signer found in what the image was
    made from, and those that were found there since.
    """
    yield from _failures(results["activeManifest"])
    for manifest in chain:
        for one in manifest.get("ingredients") or ():
            yield from (f"ingredient: {code}" for code in _found(one))
    for delta in results.get("ingredientDeltas") or ():
        yield from (f"ingredient: {code}" for code in _failures(delta["validationDeltas"]))


def _found(ingredient: Json) -> list[str]:
    """Returns the failures that the signer of a manifest found in one of its ingredients."""
    return _failures((ingredient.get("validation_results") or {}).get("activeManifest") or {})


def _chain(manifests: Json, active: Json) -> Iterator[Json]:
    """Yields the active manifest, and the intact manifests of what the image was made from.

    Anybody can add a manifest that no other one names: it is left out.
    """
    seen: set[str] = set()
    waiting = [active]
    while waiting and len(seen) < _MAX_DEPTH:
        manifest = waiting.pop(0)
        yield manifest
        for one in manifest.get("ingredients") or ():
            label = one.get("active_manifest")
            is_intact = set(_found(one)) <= {_UNTRUSTED}
            if one.get("relationship") != _INPUT and is_intact and label in manifests and label not in seen:
                seen.add(label)
                waiting.append(manifests[label])


def _actions(manifest: Json) -> Iterator[Json]:
    for assertion in manifest.get("assertions") or ():
        if str(assertion.get("label", "")).partition("__")[0] in _ACTIONS:
            yield from assertion["data"].get("actions") or ()


def _generator(manifest: Json) -> str | None:
    for one in manifest.get("claim_generator_info") or ():
        return " ".join(str(one[key]) for key in ("name", "version") if one.get(key))
    return manifest.get("claim_generator")


def _name(agent: object) -> object:
    return agent.get("name") if isinstance(agent, Mapping) else agent


def _few(values: Iterable[object]) -> tuple[str, ...]:
    """Returns each text once, in order, and at most _MAX_LISTED."""
    texts = dict.fromkeys(text for value in values if (text := text_of(value)))
    return tuple(texts)[:_MAX_LISTED]
