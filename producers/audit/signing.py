"""Signs and checks with Ed25519: with a key in a file, or with a command that has the key."""

import base64
import binascii
import hashlib
import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from worker.errors import UsageError

SIGNATURE_BYTES = 64
SIGNER_TIMEOUT_S = 300
"""A person may have to touch a token."""


@dataclass(frozen=True)
class Signer:
    """A key that signs. `sign` returns 64 bytes."""

    public: Ed25519PublicKey
    sign: Callable[[bytes], bytes]


def make_key(path: Path) -> Path:
    """Writes a new private key to `path`, which only its owner may read, and its public key to `path`.pub.

    Returns the path of the public key. Overwrites nothing. Raises UsageError if a file is there already, and OSError.
    """
    public = path.with_name(path.name + ".pub")
    for one in (path, public):
        if os.path.lexists(one):
            raise UsageError(f"{one} is there already: choose another name; nothing was written")
    key = Ed25519PrivateKey.generate()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(pem_of(key.public_key()))
    return public


def signer_with(path: Path) -> Signer:
    """Returns the signer of a private key in PEM. Raises UsageError if the file holds no such key."""
    try:
        key = load_pem_private_key(_read(path), password=None)
    except TypeError:
        raise UsageError(f"--key: {path} has a passphrase: decrypt it, or use --signer") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"--key: {path} is no private key in PEM: `fakesweep audit key FILE` makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"--key: {path} is not an Ed25519 key: `fakesweep audit key FILE` makes one")
    return Signer(key.public_key(), key.sign)


def signer_by(command: str, public: Ed25519PublicKey) -> Signer:
    """Returns a signer that runs a command: it reads what to sign from stdin, and writes the signature to stdout.

    The signature is 64 bytes, or the same in base64. Signing raises UsageError if the command fails, or if the
    signature is not that of the public key.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--signer: {error}") from None
    if not words:
        raise UsageError("--signer: name a command")
    return Signer(public, lambda content: _signed(words, content))


def _signed(words: list[str], content: bytes) -> bytes:
    try:
        done = subprocess.run(words, input=content, capture_output=True, timeout=SIGNER_TIMEOUT_S, check=False)  # noqa: S603 - the user's own command
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"--signer: {error}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing on stderr"]
        raise UsageError(f"--signer: {words[0]} ended with code {done.returncode}: {said[-1]}")
    return _signature(done.stdout)


def _signature(output: bytes) -> bytes:
    signature = output
    if len(output) != SIGNATURE_BYTES:
        try:
            signature = base64.b64decode(b"".join(output.split()), validate=True)
        except binascii.Error:
            signature = b""
    if len(signature) != SIGNATURE_BYTES:
        raise UsageError(f"--signer: it wrote no Ed25519 signature: {SIGNATURE_BYTES} bytes, or the same in base64")
    return signature


def public_key(path: Path) -> Ed25519PublicKey:
    """Returns the public key in a PEM file. Raises UsageError if the file holds no Ed25519 public key."""
    key = public_key_of(_read(path))
    if key is None:
        raise UsageError(f"--public-key: {path} is no Ed25519 public key in PEM: give the .pub file of the key")
    return key


def public_key_of(pem: bytes) -> Ed25519PublicKey | None:
    """Returns the Ed25519 public key that this PEM text holds, or None."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, Ed25519PublicKey) else None


def pem_of(key: Ed25519PublicKey) -> bytes:
    """Returns a public key in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: Ed25519PublicKey) -> str:
    """Returns the name of a key: the SHA-256 of its SubjectPublicKeyInfo in DER."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def is_signed(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    """Returns whether this is the key's signature of these bytes."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
