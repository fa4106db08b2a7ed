"""The session of a person: a signed cookie with their identity and the time of the login."""

import time

from fastapi import Request

from producers.web.access.identities import DEMO, OIDC, PROXY, from_proxy
from producers.web.pages import cookie_bytes
from producers.web.settings import LoginKind, WebSettings

_IDENTITY, _SINCE, _NEXT = "identity", "since", "next"
_PREFIXES = {LoginKind.DEMO: DEMO, LoginKind.OIDC: OIDC, LoginKind.PROXY: PROXY}
_MOST_NEXT_BYTES = 800
"""The session is a cookie, and browsers allow 4,096 bytes."""
START = "/"


def begin(request: Request, identity: str) -> str:
    """Starts a new session, without anything from the old one. Returns the page that the person had asked for."""
    address = str(request.session.get(_NEXT, START))
    request.session.clear()
    request.session[_IDENTITY] = identity
    request.session[_SINCE] = int(time.time())
    return address


def identity_of(request: Request, settings: WebSettings) -> str | None:
    """Returns the identity of the person, if their session is valid and was started by the configured kind of login.

    A proxy names the person in each request. If it names nobody, or somebody else, the session does not count.
    """
    identity, since = request.session.get(_IDENTITY), request.session.get(_SINCE)
    if not isinstance(identity, str) or not isinstance(since, int):
        return None
    if not identity.startswith(_PREFIXES[settings.login]) or time.time() - since > settings.session_s:
        return None
    if settings.login is LoginKind.PROXY and from_proxy(request, settings) != identity:
        return None
    return identity


def remember(request: Request) -> None:
    """Remembers the page that was asked for, to show it after the login. It is always one of our own pages."""
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    is_ours = path.startswith("/") and not path.startswith("//") and "\\" not in path
    if request.method == "GET" and is_ours and cookie_bytes(path) <= _MOST_NEXT_BYTES:
        request.session[_NEXT] = path
