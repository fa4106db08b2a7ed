"""Checks that every request passes before an endpoint sees it: address, size, token, parameters."""

from collections import Counter
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from fastapi import params
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.web.api.caller import admit
from producers.web.api.problems import ProblemError, problem

log = structlog.get_logger(__name__)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """A route that checks the token first, and refuses unknown parameters and bodies that are not JSON."""

    def get_route_handler(self) -> Handler:
        """See APIRoute."""
        answer = super().get_route_handler()
        scopes = [
            one for given in self.dependencies if isinstance(given, params.Security) for one in given.scopes or ()
        ]
        known = {field.alias for field in get_flat_dependant(self.dependant).query_params}

        async def guarded(request: Request) -> Response:
            if scopes:
                request.state.caller = await run_in_threadpool(admit, request, scopes)
            _check_parameters(request, known)
            if self.body_field is not None:
                _check_kind_of_body(request, required=self.body_field.field_info.is_required())
            return await answer(request)

        return guarded


def _check_parameters(request: Request, known: set[str]) -> None:
    given = Counter(name for name, _ in request.query_params.multi_items())
    faults = [{"type": "unknown", "loc": ("query", name), "msg": "unknown parameter"} for name in given.keys() - known]
    faults += [
        {"type": "twice", "loc": ("query", name), "msg": "given more than once"}
        for name, count in given.items()
        if name in known and count > 1
    ]
    if faults:
        raise RequestValidationError(faults)


def _check_kind_of_body(request: Request, *, required: bool) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    if kind != "application/json" and (required or not empty):
        header = {"Accept": "application/json"}
        raise ProblemError(415, "send the body as application/json, and say so in Content-Type", header)


class Guards:
    """An ASGI middleware around the whole API. Addresses must be UTF-8, bodies have at most `max_bytes`, and every
    fault gets an answer.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                headers.setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        try:
            refused = _refused_address(scope) or self._refused_length(scope)
            await (refused or self._answer)(scope, receive, sending)
        except Exception:
            log.exception("api_failed", path=scope["path"], method=scope["method"])
            if begun:
                raise  # the connection is closed, so that nobody takes a part of the answer for the whole answer
            fault = problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong here; it is in the server's log")
            await fault(scope, receive, sending)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = self._max_bytes

        async def receiving() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_long)
            return message

        await self._app(scope, receiving, send)

    def _refused_length(self, scope: Scope) -> Response | None:
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if any(not one.isdigit() for one in lengths):
            return problem(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
        if any(len(one) > 15 or int(one) > self._max_bytes for one in lengths):  # noqa: PLR2004 - a petabyte
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_long)
        return None

    @property
    def _too_long(self) -> str:
        return f"a body has {self._max_bytes} bytes at most"


def _refused_address(scope: Scope) -> Response | None:
    """Python would read bytes that are not UTF-8 as other characters."""
    for part in (scope.get("raw_path") or b"", scope["query_string"]):
        try:
            unquote_to_bytes(part.decode("ascii")).decode()
        except UnicodeDecodeError:
            return problem(HTTPStatus.BAD_REQUEST, "the address is not percent-encoded UTF-8")
    return None
