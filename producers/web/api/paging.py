"""Answers in pages: each page says where the next one begins."""

from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

MAX_PAGE = 1000
PAGE = 100

Item = TypeVar("Item", bound=BaseModel)

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description=f"How many at most; {PAGE} unless given.", examples=[50])]

LINKED: dict[str, Any] = {
    "description": "A page.",
    "headers": {
        "Link": {
            "description": 'The next page, as `<…>; rel="next"`; absent on the last.',
            "schema": {"type": "string"},
        }
    },
}


class Page(BaseModel, Generic[Item]):
    """Some items, and where the next ones are."""

    items: list[Item]
    next: str | None = Field(description="The address of the next page; null on the last.")


def next_page(request: Request, **changes: Any) -> str:
    """Returns the address of this request with other parameters, relative to the server."""
    return f"{request.url.path}?{urlencode(dict(request.query_params) | changes)}"


def linked(address: str | None) -> Mapping[str, str]:
    """The header that names the next page."""
    return {} if address is None else {"Link": f'<{address}>; rel="next"'}


def link(response: Response, address: str | None) -> None:
    """Adds the Link header with the next page to the answer."""
    response.headers.update(linked(address))
