"""How somebody is named who comes in: by who says so, and by what that one calls them.

An e-mail address is no identity: it can be given to somebody else.
"""

import hmac

from starlette.requests import HTTPConnection

from producers.web.pages import cookie_bytes
from producers.web.settings import WebSettings

DEMO, OIDC, PROXY = "demo:", "oidc:", "proxy:"
SECRET_HEADER = "X-Fakesweep-Proxy-Secret"  # noqa: S105 - the name of a header
LONGEST = 255
"""Characters of what a provider or a proxy calls somebody; as many as OpenID Connect allows."""
MOST_BYTES = 1000
"""Of the same, as a cookie holds it: 166 characters of most scripts that are not Latin."""


def from_oidc(issuer: str, subject: object) -> str | None:
    """The identity of somebody whom an issuer calls `subject`; None if it is no usable name."""
    return f"{OIDC}{issuer}|{subject}" if isinstance(subject, str) and _is_usable(subject) else None


def from_proxy(request: HTTPConnection, settings: WebSettings) -> str | None:
    """Whom the proxy names, if the request comes from the proxy; None if it is no usable name."""
    name = named_by_proxy(request, settings)
    return f"{PROXY}{name}" if name is not None and _is_usable(name) else None


def named_by_proxy(request: HTTPConnection, settings: WebSettings) -> str | None:
    """What the proxy calls who asks, if the request comes from the proxy: it knows the secret that we share with it.

    A header that is sent twice is not believed: the client may have sent one of the two.
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
    """Whether a name has too many characters, or would fill the cookie that the session is."""
    return len(name) > LONGEST or cookie_bytes(name) > MOST_BYTES


def _is_usable(name: str) -> bool:
    return bool(name) and not is_too_long(name) and name.isprintable() and name == name.strip()
