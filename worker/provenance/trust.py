"""The lists of certificates by which a C2PA signature is trusted. Two lists of the C2PA are shipped, with their date.

`trust/` holds them. To bring them up to date, put newer files there and change SHIPPED.
"""

import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from worker.errors import ConfigurationError
from worker.named_files import expanded, unreadable

FOLDER = Path(__file__).parent / "trust"

DATED = "2026-08-05"
"""When the shipped lists were issued."""


_SETTING = "FAKESWEEP_TRUST_LIST"
NOBODY = Path("none")
"""The value of the setting that means: no list."""


class Kind(StrEnum):
    """What the certificates of a list may sign, as c2pa-rs calls it."""

    SIGNERS = "manifest"
    TIME_STAMPS = "tsa"


@dataclass(frozen=True)
class TrustList:
    """Certificates in PEM, and the name under which results mention the list."""

    name: str
    kind: Kind
    certificates: str


def trust_lists(own: Path | None = None) -> tuple[TrustList, ...]:
    """Returns the shipped lists of signers and of time stamps. With `own`, the signers are those in that file.

    If `own` is NOBODY, there is no list, and so no signer is trusted or refused.
    Raises ConfigurationError if `own` cannot be read, holds no certificate, or a damaged one.
    """
    if own == NOBODY:
        return ()
    signers = TrustList(f"c2pa {DATED}", Kind.SIGNERS, _shipped("signers"))
    if own is not None:
        signers = TrustList("own list", Kind.SIGNERS, _read(own))
    return signers, TrustList(f"c2pa time stamps {DATED}", Kind.TIME_STAMPS, _shipped("time_stamps"))


def fingerprint(lists: Sequence[TrustList]) -> str:
    """Returns eight hexadecimal digits that change when a certificate does."""
    return hashlib.sha256("\n".join(one.certificates for one in lists).encode()).hexdigest()[:8]


def _shipped(what: str) -> str:
    return (FOLDER / f"c2pa_{what}_{DATED}.pem").read_text()


def _read(path: Path) -> str:
    try:
        text = expanded(_SETTING, path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise unreadable(_SETTING, path, error) from None
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ConfigurationError(f"{_SETTING} holds no certificate in PEM: {path}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigurationError(f"{_SETTING}: a certificate in {path} is damaged: {error}") from None
    return text
