"""Our pages: templates, with what every page needs."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from producers.web.csrf import token_of


def environment() -> Environment:
    """The templates of producers/web/templates. Everything that they show is escaped."""
    return Environment(
        loader=PackageLoader("producers.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class Pages:
    """Shows templates to who asks."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def show(
        self, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> HTMLResponse:
        """The page that this template makes of these values."""
        request = self._request
        found: Environment = request.app.state.templates
        shared = {"request": request, "csrf": token_of(request), "reviewer": request.session.get("reviewer")}
        text = found.get_template(template).render(**shared, **values)
        return HTMLResponse(text, status_code=status, headers=headers)


def pages_of(request: Request) -> Pages:
    """For FastAPI's Depends."""
    return Pages(request)
