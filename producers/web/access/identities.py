"""Identities: who vouches for a person (a provider or a proxy), and the name that it uses for them.

An e-mail address is not an identity, because it can be given to somebody else.
"""

import hmac

from starlette.requests import HTTPConnection

from producers.web.pages import cookie_bytes
from producers.web.settings import WebSettings

DEMO, OIDC, PROXY = "demo:", "oidc:", "proxy:"
SECRET_HEADER = "X-Fakesweep-Proxy-Secret"  # noqa: S105 - the name of a header
LONGEST = 255
"""The longest name that a provider or a proxy may use for somebody, in characters. OpenID Connect allows as many."""
MOST_BYTES = 1000
"""The same limit for the bytes of the name in a cookie: 166 characters in most scripts that are not Latin."""


def from_oidc(issuer: str, subject: object) -> str | None:
    """Returns the identity of the person whom an issuer calls `subject`, or None if the name cannot be used."""
    return f"{OIDC}{issuer}|{subject}" if isinstance(subject, str) and _is_usable(subject) else None


def from_proxy(request: HTTPConnection, settings: WebSettings) -> str | None:
    """Returns the identity that the proxy names, or None. The request must come from the proxy, and the name must
    be usable.
    """
    name = named_by_proxy(request, settings)
    return f"{PROXY}{name}" if name is not None and _is_usable(name) else None


def named_by_proxy(request: HTTPConnection, settings: WebSettings) -> str | None:
    """Returns the name that the proxy uses for the person, if the request comes from the proxy.

    A request comes from the proxy if it has the secret that we share with the proxy. A header that is sent twice is
    ignored, because the client may have sent one of the two.
    """
    secrets = request.headers.getlist(SECRET_HEADER)
    expected = settings.proxy_secret.get_secret_value().encode()
    if not expected or len(secrets) != 1 or not hmac.compare_digest(secrets[0].encode("latin-1"), expected):
        return None
    names = request.headers.getlist(settings.proxy_header)
    try:
        return names[0].encode("latin-1").decode() if len(names) == 1 else None
    except UnicodeDecodeError:
        return None


def is_too_long(name: str) -> bool:
    """Returns whether a name has too many characters, or would not fit into the session's cookie."""
    return len(name) > LONGEST or cookie_bytes(name) > MOST_BYTES


def _is_usable(name: str) -> bool:
    return bool(name) and not is_too_long(name) and name.isprintable() and name == name.strip()
