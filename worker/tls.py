"""Sets up TLS to the broker with certificates from files, and says what an error of TLS means.

For Postgres and S3, only explained() is used: libpq takes its files from DATABASE_URL, and boto3 from AWS_CA_BUNDLE
(docs/tls.md).
"""

import re
import ssl
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from worker.errors import ConfigurationError
from worker.named_files import expanded, unreadable

CA_FILE, CERT_FILE, KEY_FILE = (f"FAKESWEEP_BROKER_{name}_FILE" for name in ("CA", "CERT", "KEY"))

_AMQPS, _REDISS = "amqps", "rediss"

_MEANINGS = (
    (r"certificate has expired", "the server's certificate has expired", "renew it"),
    (r"not yet valid", "the server's certificate is not valid yet", "check the clocks of both machines"),
    (
        r"mismatch, certificate is not valid|does not match host name|doesn't match",
        "the server's certificate is for another host name",
        "connect by a name that is in the certificate",
    ),
    (
        r"certificate.required|requires a valid client certificate|handshake.failure|did not return a certificate",
        "the server asks for a client certificate",
        "set {cert} and {key}",
    ),
    (
        r"alert.unknown.ca|alert.bad.certificate|alert.certificate.(?:expired|revoked|unknown)",
        "the server does not accept our client certificate",
        "take one that its CA has signed and that has not expired: {cert}",
    ),
    (
        r"self.signed certificate|unable to get (?:local )?issuer|unable to verify the first",
        "the server's certificate is not signed by a CA that we trust",
        "set {ca} to the file with the CA's certificate",
    ),
    (
        r"certificate verify failed",
        "the server's certificate cannot be verified: its CA is not the one that we trust, or it has expired",
        "check {ca}, and the certificate's dates",
    ),
    (
        r"EOF occurred in violation of protocol",
        "the server closed the connection in the TLS handshake: perhaps it does not accept the client certificate",
        "check {cert} and {key}",
    ),
    (r"wrong.version.number|record layer failure", "the server does not use TLS on this port", "check the port"),
    (
        r"no pg_hba.conf entry.*no encryption",
        "the server refuses this connection, which is not encrypted",
        "add sslmode=verify-full to DATABASE_URL, or a line to pg_hba.conf",
    ),
    (r"does not support SSL", "the server does not offer TLS", "turn it on there (Postgres: ssl = on)"),
)
"""What OpenSSL, Python and libpq write, what it means, and what helps. The first pattern that matches counts."""


class BrokerTls(NamedTuple):
    """The files for TLS to the broker. Without a CA file, the CAs of the system are trusted."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def options(self, broker_url: str) -> dict[str, Any] | None:
        """Returns Celery's `broker_use_ssl` for this URL; None where the URL asks for no encryption.

        The server's certificate and its host name are always verified, unless options in a rediss:// URL say otherwise.
        Raises ConfigurationError when a file is missing or wrong, or when the URL asks for no encryption.
        """
        scheme = broker_url.partition(":")[0]
        if scheme not in {_AMQPS, _REDISS}:
            self._refuse_unencrypted(scheme)
            return None
        files = self._checked()
        given = dict(zip(("ca_certs", "certfile", "keyfile"), map(_text, files), strict=True))
        own: dict[str, Any] = {name: value for name, value in given.items() if value}
        if scheme == _AMQPS:
            # kombu fills in the host name where it is None. Without this key, py-amqp does not verify the name.
            return {**own, "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
        return {f"ssl_{name}": value for name, value in own.items()} | {"ssl_cert_reqs": ssl.CERT_REQUIRED}

    def _refuse_unencrypted(self, scheme: str) -> None:
        named = [name for name, path in zip((CA_FILE, CERT_FILE, KEY_FILE), self, strict=True) if path]
        if named:
            raise ConfigurationError(
                f"{named[0]} is set, but BROKER_URL begins with {scheme}://, which is not encrypted: "
                "begin it with amqps:// or rediss://"
            )

    def _checked(self) -> "BrokerTls":
        """Returns the files with whole paths."""
        if (self.cert_file is None) != (self.key_file is None):
            there, missing = (CERT_FILE, KEY_FILE) if self.cert_file else (KEY_FILE, CERT_FILE)
            raise ConfigurationError(f"{there} is set and {missing} is not: set both, or neither")
        ca, cert, key = (
            path and expanded(name, path) for name, path in zip((CA_FILE, CERT_FILE, KEY_FILE), self, strict=True)
        )
        context = ssl.create_default_context()
        if ca:
            _read(CA_FILE, ca, "holds no certificate", lambda: context.load_verify_locations(ca))
        if cert and key:
            _readable(KEY_FILE, key)
            fault = f"holds no certificate, or {key} is not its key"
            _read(CERT_FILE, cert, fault, lambda: context.load_cert_chain(cert, key, _no_password))
        return BrokerTls(ca, cert, key)


def explained(error: object, *, ca: str, cert: str, key: str) -> str | None:
    """Returns what an error of TLS means and what helps, in one line; None if the text is not about TLS.

    `ca`, `cert` and `key` are the settings that the remedy names.
    """
    text = str(error)
    for pattern, meaning, remedy in _MEANINGS:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{meaning}: {remedy.format(ca=ca, cert=cert, key=key)}"
    return None


def broker_explained(error: object) -> str | None:
    """Returns the same as explained(), with the settings of the broker."""
    return explained(error, ca=CA_FILE, cert=CERT_FILE, key=KEY_FILE)


def database_explained(error: object) -> str | None:
    """Returns the same as explained(), with libpq's parameters."""
    return explained(error, ca="sslrootcert in DATABASE_URL", cert="sslcert", key="sslkey in DATABASE_URL")


def _no_password() -> NoReturn:
    """Is asked for the password of a key. OpenSSL would ask on the terminal, and wait."""
    raise ConfigurationError(f"{KEY_FILE}: the key has a password: give a key without one (openssl pkey -in KEY)")


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


def _read(setting: str, path: Path, fault: str, load: Any) -> None:
    _readable(setting, path)
    try:
        load()
    except (ssl.SSLError, ValueError):
        raise ConfigurationError(f"{setting}: {path} {fault}: give PEM files that belong together") from None


def _readable(setting: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise unreadable(setting, path, error) from None
