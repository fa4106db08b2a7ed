"""Forms are only taken from our own pages: each carries a token of its session."""

import hmac
import secrets
from urllib.parse import urlsplit

from fastapi import Request

from worker.errors import CsrfError

FIELD = "csrf"
HEADER = "X-CSRF-Token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


def token_of(request: Request) -> str:
    """The token of the session, for the hidden field of a form; made when there is none yet."""
    token: str = request.session.setdefault(FIELD, secrets.token_urlsafe(32))
    return token


async def csrf_checked(request: Request) -> None:
    """A dependency of everything that changes something: checks the token of the form, or of the header.

    Also checks what browsers say of where a form comes from, when they say it. Raises CsrfError.
    """
    if request.method in SAFE:
        return
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise CsrfError
    origin = request.headers.get("origin")
    # The names that we answer to are checked before (producers.web.guards), so `Host` is one of ours.
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise CsrfError
    given = request.headers.get(HEADER) or (await request.form()).get(FIELD)
    expected = request.session.get(FIELD)
    if not expected or not isinstance(given, str) or not hmac.compare_digest(given.encode(), expected.encode()):
        raise CsrfError
