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
_IDENTITY = "cawg."
"""Codes about a further identity in the manifest, by the Creator Assertions Working Group. It says nothing about the
signature of the manifest.
"""
_TIME_STAMP = "timeStamp.untrusted"
_BOX, _LABEL = b"jumb", b"c2pa."
"""The type of the boxes that hold a manifest, and the beginning of the names in it (ISO 19566-5)."""
_MAX_LISTED = 50
_ACTIONS = ("c2pa.actions", "c2pa.actions.v2")
_MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "TIFF": "image/tiff",
         "AVIF": "image/avif", "HEIF": "image/heif"}  # fmt: skip


class CredentialsReader:
    """Reads manifests against the trust lists. Building one parses the lists, so it is built once per process.

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


def credentials_of(store: Mapping[str, Any]) -> Credentials:
    """Returns what the JSON of c2pa's Reader says. Raises KeyError, TypeError or AttributeError on another shape."""
    results = store["validation_results"]
    active = store["manifests"][store["active_manifest"]]
    signature = active.get("signature_info") or {}
    actions = list(_actions(store["manifests"].values()))
    return Credentials(
        state_of(results),
        signer=text_of(signature.get("issuer") or signature.get("common_name")),
        claim_generator=text_of(_generator(active)),
        actions=_few(one.get("action") for one in actions),
        source_types=_few(one.get("digitalSourceType") for one in actions),
        software=_few(_name(one.get("softwareAgent")) for one in actions),
        codes=_few(code for code in _failures(results)),
        trust_list=text_of(results.get("trustListUri")),
    )


def state_of(results: Mapping[str, Any]) -> C2paState:
    """Returns the state that validation results lead to, by their codes (C2PA 2.2, section 15.2.2).

    The active manifest decides. If it has a failure that is not about trust, the state is invalid. If its signer is not
    trusted, it is untrusted. Otherwise it is trusted if the signer is on a list and nothing else failed, such as the
    signature of a further identity, a time stamp, or a manifest that this one contains. If something else failed, or
    if no list was asked, it is valid.
    """
    active = results["activeManifest"]
    failures = {one["code"] for one in active["failure"]}
    about_trust = {code for code in failures if code.startswith(_IDENTITY)} | (failures & {_UNTRUSTED, _TIME_STAMP})
    if failures - about_trust:
        return C2paState.INVALID
    if _UNTRUSTED in failures:
        return C2paState.UNTRUSTED
    is_listed = any(one["code"] == _TRUSTED for one in active["success"])
    return C2paState.TRUSTED if is_listed and not list(_failures(results)) else C2paState.VALID


def _failures(results: Mapping[str, Any]) -> Iterator[str]:
    """Yields the codes of all failures, first those of the active manifest."""
    for one in results["activeManifest"]["failure"]:
        yield one["code"]
    for delta in results.get("ingredientDeltas") or ():
        for one in delta["validationDeltas"]["failure"]:
            yield f"ingredient: {one['code']}"


def _actions(manifests: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for manifest in manifests:
        for assertion in manifest.get("assertions") or ():
            if str(assertion.get("label", "")).partition("__")[0] in _ACTIONS:
                yield from assertion["data"].get("actions") or ()


def _generator(manifest: Mapping[str, Any]) -> str | None:
    for one in manifest.get("claim_generator_info") or ():
        return " ".join(str(one[key]) for key in ("name", "version") if one.get(key))
    return manifest.get("claim_generator")


def _name(agent: object) -> object:
    return agent.get("name") if isinstance(agent, Mapping) else agent


def _few(values: Iterable[object]) -> tuple[str, ...]:
    """Returns each text once, in order, and at most _MAX_LISTED."""
    texts = dict.fromkeys(text for value in values if (text := text_of(value)))
    return tuple(texts)[:_MAX_LISTED]
