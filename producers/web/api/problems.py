"""Errors of the API. All of them are application/problem+json (RFC 9457)."""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from worker.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    DatabaseUnavailableError,
    FakesweepError,
    InactiveReviewerError,
    KeyInUseError,
    KeyReusedError,
    LockedError,
    NoSuchContentError,
    NoSuchDetectorError,
    NoSuchReviewerError,
    NoSuchScanError,
    OlderAtWorkError,
    ScanStateError,
    SourceError,
    StorageUnavailableError,
    TransientError,
)
from worker.wording import worded

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
MAX_FAULTS = 20


class Fault(BaseModel):
    """One thing that is wrong in a request."""

    field: str = Field(
        description="Where: a path into the body, or the name of a parameter.", examples=["images.0.uri"]
    )
    message: str = Field(description="What is wrong.", examples=["is missing"])


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str = Field("about:blank", description="Always about:blank: `status` says what kind of error it is.")
    title: str = Field(description="The status in words.", examples=["Not Found"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(description="What went wrong, and what helps.", examples=["there is no such scan"])
    errors: list[Fault] | None = Field(None, description="With 422: what is wrong, field by field; 20 at most.")
    database: str | None = Field(None, description="Of health alone: ok, or unavailable.")
    broker: str | None = Field(None, description="Of health alone: ok, or unavailable.")


class ProblemError(HTTPException):
    """Ends a request with a problem. `headers` are sent with the answer."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


_MEANINGS = {
    400: "The address or the body cannot be read: invalid UTF-8, or no JSON.",
    401: "There is no token, or it is unknown, expired or withdrawn.",
    403: "The token may not do this.",
    404: "There is no such thing.",
    406: "The findings are not available in a format that you accept.",
    409: "It cannot be done in this state.",
    410: "The findings of this scan were dropped.",
    413: "The body is too long.",
    415: "The body is not application/json.",
    422: "A field or a parameter is wrong, missing or unknown.",
    429: "Too many requests. Ask again after Retry-After.",
    500: "A fault on our side.",
    503: "The database, the broker or the storage cannot be reached: `detail` says which. Ask again after Retry-After.",
}
_ALWAYS = (400, 413, 422, 500, 503)
WITH_TOKEN = (401, 403, 429)


def answers(*statuses: int, token: bool = True) -> dict[int | str, dict[str, Any]]:
    """Returns the error answers of an endpoint, for its description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found = sorted({*_ALWAYS, *(WITH_TOKEN if token else ()), *statuses})
    return {status: {"description": _MEANINGS[status], "content": content} for status in found}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """Returns the answer for an error. Its JSON is ASCII, so that it can quote anything that was sent."""
    shown = Problem(title=HTTPStatus(status).phrase, status=status, detail="").model_dump(exclude_none=True)
    body = json.dumps(shown | {"detail": detail} | more)
    return Response(body, status, headers=headers, media_type=MEDIA_TYPE)


def add_problems(app: FastAPI) -> None:
    """Makes the app answer its errors with problems."""
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(FakesweepError, _ours)


def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, StarletteHTTPException):
        raise error
    headers, detail = dict(error.headers or {}), str(error.detail)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
        detail = f"this address takes {headers['Allow']}"
    elif error.status_code == HTTPStatus.NOT_FOUND and not isinstance(error, ProblemError):
        detail = "there is no such address; /v1/openapi.json lists all addresses"
    return problem(error.status_code, detail, headers)


def _methods(request: Request) -> Iterable[str]:
    """All methods of the address, because Starlette names only those of one route."""
    matching = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching for method in getattr(route, "methods", None) or ()}


def _invalid(_request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    if any(fault["type"] == "json_invalid" for fault in faults):
        return problem(HTTPStatus.BAD_REQUEST, "the body is no JSON")
    shown = [
        {
            "field": ".".join(map(str, fault["loc"][1:]))[:200] or str(fault["loc"][0]),
            "message": worded(fault)[:500],
        }
        for fault in faults[:MAX_FAULTS]
    ]
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the request does not fit its description", errors=shown)


_STATUSES: dict[type[FakesweepError], HTTPStatus] = {
    NoSuchScanError: HTTPStatus.NOT_FOUND,
    NoSuchContentError: HTTPStatus.NOT_FOUND,
    NoSuchDetectorError: HTTPStatus.CONFLICT,
    OlderAtWorkError: HTTPStatus.CONFLICT,
    ScanStateError: HTTPStatus.CONFLICT,
    KeyInUseError: HTTPStatus.CONFLICT,
    KeyReusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    SourceError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InactiveReviewerError: HTTPStatus.FORBIDDEN,
    NoSuchReviewerError: HTTPStatus.FORBIDDEN,
}


_AWAY: dict[type[FakesweepError], str] = {
    BrokerUnavailableError: "the broker cannot be reached",
    DatabaseUnavailableError: "the database cannot be reached, or takes too long",
    StorageUnavailableError: "the storage cannot be reached",
    LockedError: "others are writing what you ask for",
    ConfigurationError: "a setting of the server is wrong, and its log says which",
}


def _ours(request: Request, error: Exception) -> Response:
    known = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), None)
    if known is not None:
        later = {"Retry-After": "1"} if isinstance(error, KeyInUseError) else None
        return problem(known, str(error).partition("; `fakesweep")[0].partition("; fakesweep")[0], later)
    if not isinstance(error, TransientError | ConfigurationError):
        raise error
    return _unavailable(request, error)


def _unavailable(request: Request, error: FakesweepError) -> Response:
    """Names the service that is away, but not its address, which is in the log."""
    log.warning("api_unavailable", path=request.url.path, error=str(error))
    what = next((text for kind, text in _AWAY.items() if isinstance(error, kind)), "something is away that this needs")
    how = "repeat the request with the same idempotency key" if "idempotency-key" in request.headers else "ask again"
    detail = f"{what}: {how} in a moment"
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(RETRY_AFTER_S)})
