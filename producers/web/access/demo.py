"""The login of the demo: anybody on this machine chooses who they are. It works on loopback alone."""

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
"""A proxy on this machine would make everybody a client of this machine."""


def on_loopback(request: Request) -> None:
    """A dependency: the client, and the name by which it calls us, are this machine. Raises ForbiddenError.

    Without a look at the name, a page of another site could reach us through a name that leads here.
    """
    if any(header in request.headers for header in _OF_PROXIES):
        raise ForbiddenError("the demo's login works without a proxy alone")
    called = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    client = request.client.host if request.client else ""
    if not (is_loopback(client) and is_loopback(called)):
        raise ForbiddenError("the demo's login works on this machine alone")


@router.get("/login", dependencies=[Depends(on_loopback)])
def choose(pages: APages, parts: AParts) -> HTMLResponse:
    """Shows who there is."""
    query = select(Reviewer).where(col(Reviewer.active)).order_by(col(Reviewer.name))
    with transaction(parts.database) as session:
        people = list(session.execute(query).scalars())
    return pages.show("login_demo.html.j2", people=people)


@router.post("/login", dependencies=[Depends(on_loopback), Depends(csrf_checked)])
def enter(request: Request, name: Annotated[str, Form()], parts: AParts) -> Response:
    """Takes who they say they are."""
    identity = f"{DEMO}{name}"
    if reviewer_with(parts.database, identity) is None:
        raise NotLoggedInError
    return RedirectResponse(sessions.begin(request, identity), status_code=303)
