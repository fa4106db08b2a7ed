"""Logging out."""

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from producers.web.csrf import csrf_checked
from producers.web.pages import APages

router = APIRouter(include_in_schema=False)


@router.post("/logout", dependencies=[Depends(csrf_checked)])
def leave(request: Request) -> Response:
    """Ends the session and tells the browser to delete its copies of pictures."""
    request.session.clear()
    return RedirectResponse("/logged-out", status_code=303, headers={"Clear-Site-Data": '"cache"'})


@router.get("/logged-out")
def left(pages: APages) -> HTMLResponse:
    """Says that the person is logged out. It does not show the login page: if the provider still knows the person,
    that page would log them in again at once.
    """
    return pages.show("logged_out.html.j2")
