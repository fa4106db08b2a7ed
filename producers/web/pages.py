"""Our pages: templates, and what every page needs."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from producers.web.csrf import token_of

_LONGEST_SAID, _MOST_SAID_BYTES = 300, 600
"""The longest text that is kept for the next page. A character outside ASCII takes 6 or 12 bytes in a cookie."""


def environment() -> Environment:
    """Returns the templates of producers/web/templates. Everything that they show is escaped."""
    found = Environment(
        loader=PackageLoader("producers.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"cut": cut, "minute": minute, "words": words}
    return found


def cut(text: str, limit: int) -> str:
    """Returns the text, or its beginning and its end with an ellipsis between them, in at most `limit` characters."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end - 1]}…{text[-end:]}"


def minute(time: datetime) -> str:
    """Returns a time to the minute, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def words(code: str) -> str:
    """Returns a code in words: cannot_tell becomes "cannot tell"."""
    return code.replace("_", " ")


def cookie_bytes(text: str) -> int:
    """Returns how many bytes a text takes in the session, which is a cookie of 4,096 bytes in base64."""
    return len(json.dumps(text))


def _cut_for_a_cookie(text: str) -> str:
    said = cut(text, _LONGEST_SAID)
    while cookie_bytes(said) > _MOST_SAID_BYTES:
        said = cut(said, len(said) - 10)
    return said


class Pages:
    """Shows templates to the person who makes the request."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def show(
        self, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
    ) -> HTMLResponse:
        """Returns the page that this template makes of these values."""
        request = self._request
        found: Environment = request.app.state.templates
        person = getattr(request.state, "person", None)
        shared = {
            "request": request,
            "csrf": token_of(request),
            "reviewer": person and person.name,
            "role": person and person.role,
            "said": request.session.pop("said", None),
        }
        text = found.get_template(template).render(**shared, **values)
        return HTMLResponse(text, status_code=status, headers=headers)

    def say(self, text: str) -> None:
        """Says something on the next page. A long text is cut."""
        self._request.session["said"] = _cut_for_a_cookie(text)

    def go_on(self, address: str, **more: Any) -> Response:
        """Sends the browser to another page. Our script gets JSON with the address, and `more` with it."""
        if self.asked_by_script:
            return JSONResponse({"next": address, **more})
        return RedirectResponse(address, status_code=303)

    @property
    def asked_by_script(self) -> bool:
        """Whether our script makes the request, and not the browser itself."""
        return self._request.headers.get("accept") == "application/json"


def pages_of(request: Request) -> Pages:
    """For FastAPI's Depends."""
    return Pages(request)


APages = Annotated[Pages, Depends(pages_of)]
"""The pages, for what answers a request."""
