"""Forms are only taken from our own pages: each carries a token of its session."""

import hmac
import secrets

from fastapi import Request

FIELD = "csrf"
HEADER = "X-CSRF-Token"


class CsrfError(Exception):
    """The form does not carry the token of the session that sends it."""


def token_of(request: Request) -> str:
    """The token of the session, for the hidden field of a form; made when there is none yet."""
    token: str = request.session.setdefault(FIELD, secrets.token_urlsafe(32))
    return token


async def csrf_checked(request: Request) -> None:
    """A dependency of everything that changes something: checks the token of the form, or of the header.

    Raises CsrfError.
    """
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    given = request.headers.get(HEADER) or (await request.form()).get(FIELD)
    expected = request.session.get(FIELD)
    if not expected or not isinstance(given, str) or not hmac.compare_digest(given.encode(), expected.encode()):
        raise CsrfError
