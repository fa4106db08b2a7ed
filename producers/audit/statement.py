"""The signed statement about a package: an in-toto Statement v1 in a DSSE envelope.

Sources: in-toto/attestation spec/v1/statement.md, and secure-systems-lab/dsse protocol.md and envelope.md. Both are a
few lines, so we write them ourselves: a verifier must accept exactly one form of them, which libraries do not promise.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from producers.audit.lines import json_bytes
from producers.audit.manifest import MANIFEST, STATEMENT, Manifest
from producers.audit.signing import Signer, is_signed, key_id, pem_of, public_key_of
from worker.errors import PackageDoubtError, UsageError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
WRONG_KEY = "give the public key of the one who signed; if you have it, do not rely on this copy"
PREDICATE = "urn:fakesweep:audit-package:"
PREDICATE_TYPE = f"{PREDICATE}v1"


def statement_of(manifest: Manifest, manifest_sha256: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the statement: its subjects are the manifest and each file that the manifest names."""
    subjects = [(MANIFEST, manifest_sha256), *((file.path, file.sha256) for file in manifest.files)]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in subjects],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(predicate),
    }


def envelope_of(statement: Mapping[str, Any], signer: Signer) -> bytes:
    """Returns the signed envelope. Raises UsageError if the signature is not that of the signer's public key."""
    payload = json_bytes(statement)
    signature = signer.sign(pae(payload))
    if not is_signed(signer.public, signature, pae(payload)):
        raise UsageError("--signer: its signature is not that of the key in --public-key")
    return _envelope(payload, key_id(signer.public), signature)


def _envelope(payload: bytes, keyid: str, signature: bytes) -> bytes:
    signatures = [{"keyid": keyid, "sig": base64.b64encode(signature).decode()}]
    encoded = base64.b64encode(payload).decode()
    return json_bytes({"payload": encoded, "payloadType": PAYLOAD_TYPE, "signatures": signatures}) + b"\n"


def pae(payload: bytes) -> bytes:
    """Returns what is signed: the pre-authentication encoding of DSSE."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


class Envelope:
    """An envelope as it was read. Its signature is not checked yet.

    Raises PackageDoubtError if these bytes are not exactly such an envelope, or its statement has another format.
    """

    def __init__(self, content: bytes) -> None:
        try:
            read = json.loads(content)
            (signature,) = read["signatures"]
            self.keyid = str(signature["keyid"])
            self._payload = base64.b64decode(read["payload"], validate=True)
            self._signature = base64.b64decode(signature["sig"], validate=True)
            self.statement = json.loads(self._payload)
            self.predicate_type = str(self.statement["predicateType"])
        except json.JSONDecodeError as error:
            raise PackageDoubtError(STATEMENT, f"it is no JSON from byte {error.pos} on") from None
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
            raise PackageDoubtError(STATEMENT, "it is no signed statement: the package is not signed") from None
        if self.predicate_type != PREDICATE_TYPE:
            raise PackageDoubtError(
                STATEMENT,
                f"this release does not know its format {self.predicate_type!r}",
                "install a newer release",
            )
        if not self._is_canonical() or _envelope(self._payload, self.keyid, self._signature) != content:
            raise PackageDoubtError(STATEMENT, "it is not written as the format says")

    def _is_canonical(self) -> bool:
        """Returns whether the payload is the JSON that we would write. For example, no key is there twice.

        Otherwise, two programs could read two statements in it.
        """
        try:
            return json_bytes(self.statement) == self._payload
        except (ValueError, RecursionError):  # infinite numbers, and halves of characters
            return False

    def check(self, key: Ed25519PublicKey) -> None:
        """Raises PackageDoubtError if this key has not signed it."""
        if self.keyid != key_id(key):
            raise PackageDoubtError(
                STATEMENT, f"the key {self.keyid[:16]}… signed it, and not {key_id(key)[:16]}…", WRONG_KEY
            )
        if not is_signed(key, self._signature, pae(self._payload)):
            raise PackageDoubtError(STATEMENT, "its signature is wrong: the statement was changed after it was signed")
        if self.predicate.get("public_key") != pem_of(key).decode():
            raise PackageDoubtError(STATEMENT, "the public key that it names is not the one that signed it")

    def own_key(self) -> Ed25519PublicKey:
        """Returns the public key that the statement itself names. It proves no more than that nothing was changed."""
        key = public_key_of(str(self.predicate.get("public_key")).encode())
        if key is None:
            raise PackageDoubtError(STATEMENT, "it names no public key", "give --public-key")
        return key

    @property
    def predicate(self) -> Mapping[str, Any]:
        """What the statement says about the package."""
        predicate = self.statement.get("predicate")
        return predicate if isinstance(predicate, dict) else {}
