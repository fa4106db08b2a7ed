"""The login of the demo: anybody on this machine chooses who they are. It works on loopback only."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import select
from sqlmodel import col

from producers.web.access import sessions
from producers.web.access.identities import DEMO
from producers.web.access.people import reviewer_with
from producers.web.csrf import csrf_checked
from producers.web.pages import APages
from producers.web.parts import AParts
from producers.web.settings import is_loopback
from worker.database import transaction
from worker.errors import ForbiddenError, NotLoggedInError
from worker.tables import Reviewer

router = APIRouter(include_in_schema=False)

_OF_PROXIES = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""Behind a proxy on this machine, every client would look like this machine."""


def on_loopback(request: Request) -> None:
    """A dependency that checks that the client is on this machine and calls us by a name of this machine. Raises
    ForbiddenError.

    Without the check of the name, a page of another site could reach us through a name that points to this machine.
    """
    if any(header in request.headers for header in _OF_PROXIES):
        raise ForbiddenError("the demo's login works without a proxy alone")
    called = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    client = request.client.host if request.client else ""
    if not (is_loopback(client) and is_loopback(called)):
        raise ForbiddenError("the demo's login works on this machine alone")


@router.get("/login", dependencies=[Depends(on_loopback)])
def choose(pages: APages, parts: AParts) -> HTMLResponse:
    """Shows a list of the reviewers."""
    query = select(Reviewer).where(col(Reviewer.active)).order_by(col(Reviewer.name))
    with transaction(parts.database) as session:
        people = list(session.execute(query).scalars())
    return pages.show("login_demo.html.j2", people=people)


@router.post("/login", dependencies=[Depends(on_loopback), Depends(csrf_checked)])
def enter(request: Request, name: Annotated[str, Form()], parts: AParts) -> Response:
    """Logs in as the chosen reviewer."""
    identity = f"{DEMO}{name}"
    if reviewer_with(parts.database, identity) is None:
        raise NotLoggedInError
    return RedirectResponse(sessions.begin(request, identity), status_code=303)
