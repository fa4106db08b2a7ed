"""The login by headers of a proxy that authenticates people, such as oauth2-proxy."""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from producers.web.access import sessions
from producers.web.access.identities import LONGEST, MOST_BYTES, from_proxy, is_too_long, named_by_proxy
from producers.web.access.people import reviewer_with
from producers.web.access.strangers import stranger
from producers.web.parts import AParts
from worker.errors import ForbiddenError

router = APIRouter(include_in_schema=False)


@router.get("/login")
def enter(request: Request, parts: AParts) -> Response:
    """Logs in the person whom the proxy names. Raises ForbiddenError if it names nobody, or if it is not the proxy."""
    identity = from_proxy(request, parts.settings)
    if identity is None:
        if is_too_long(named_by_proxy(request, parts.settings) or ""):
            raise ForbiddenError(
                f"the name that the proxy gives you is too long: it may have {LONGEST} characters, "
                f"and {MOST_BYTES} bytes in a cookie, where a character that is not of ASCII takes 6 or 12"
            )
        raise ForbiddenError("the proxy before the desk has not said who you are: reach the desk through it")
    if reviewer_with(parts.database, identity) is None:
        return stranger(request, identity)
    return RedirectResponse(sessions.begin(request, identity), status_code=303)
