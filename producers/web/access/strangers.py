"""The page for people who have logged in but are not reviewers."""

import shlex

from fastapi import Request
from fastapi.responses import HTMLResponse

from producers.web.pages import Pages


def stranger(request: Request, identity: str) -> HTMLResponse:
    """Shows their identity, and the command with which an operator gives them access."""
    request.session.clear()
    command = f"fakesweep reviewer add NAME --login {shlex.quote(identity)}"
    return Pages(request).show("stranger.html.j2", status=403, identity=identity, command=command)
