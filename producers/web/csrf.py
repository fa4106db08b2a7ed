"""Accepts forms only from our own pages: each form carries a token of its session."""

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
    """Returns the session's token for the hidden field of a form. Makes one if there is none yet."""
    token: str = request.session.setdefault(FIELD, secrets.token_urlsafe(32))
    return token


async def csrf_checked(request: Request) -> None:
    """A dependency of everything that changes something. It checks the token of the form, or of the header.

    It also checks the headers in which browsers say where a form comes from, if they are there. Raises CsrfError.
    """
    if request.method in SAFE:
        return
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise CsrfError
    origin = request.headers.get("origin")
    # producers.web.guards has checked the names that we answer to, so `Host` is one of ours.
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise CsrfError
    given = request.headers.get(HEADER) or (await request.form()).get(FIELD)
    expected = request.session.get(FIELD)
    if not expected or not isinstance(given, str) or not hmac.compare_digest(given.encode(), expected.encode()):
        raise CsrfError
