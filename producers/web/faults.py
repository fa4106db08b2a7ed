"""Shows people what went wrong: a page with the cause and the remedy, and the right status."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from producers.web.access import sessions
from producers.web.pages import Pages, words
from worker.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    CsrfError,
    DatabaseUnavailableError,
    FakesweepError,
    ForbiddenError,
    NoSuchContentError,
    NoSuchScanError,
    NotLoggedInError,
    StorageUnavailableError,
    TransientError,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Told:
    """What to say about an error."""

    status: int
    title: str
    why: str


def add_faults(app: FastAPI) -> None:
    """Makes the app answer errors with pages, or with JSON if our script asks."""
    app.add_exception_handler(NotLoggedInError, _to_login)
    for kind, told in _TOLD.items():
        app.add_exception_handler(kind, _answer(told))


def _to_login(request: Request, _error: Exception) -> Response:
    if Pages(request).asked_by_script:
        why = "You are not logged in any more. Log in in another tab, then do this again: what you typed stays here."
        return JSONResponse({"why": why}, HTTPStatus.UNAUTHORIZED)
    if request.headers.get("sec-fetch-dest", "document") != "document":
        # A picture of an old page must not start a login of its own.
        return Response(status_code=HTTPStatus.UNAUTHORIZED)
    sessions.remember(request)
    return RedirectResponse("/login", status_code=HTTPStatus.SEE_OTHER)


def _answer(tell: Callable[[Exception], Told]) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        told = tell(error)
        if told.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("page_failed", path=request.url.path, error=str(error), exc_info=error)
        pages = Pages(request)
        if pages.asked_by_script:
            return JSONResponse({"why": told.why}, told.status)
        return pages.show("fault.html.j2", status=told.status, title=told.title, why=told.why)

    return answer


def sentence(text: str) -> str:
    """Returns an error's text for pages: with a capital letter and a full stop, and without commands of our command
    line.
    """
    for part in re.split(r"[;:] ", text):
        if "fakesweep " in part:
            text = text.partition(part)[0].rstrip(";: ")
    text = text or "this cannot be done"
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


def _forbidden(error: Exception) -> Told:
    return Told(HTTPStatus.FORBIDDEN, "Not allowed", sentence(str(error)))


def _old_form(_error: Exception) -> Told:
    why = "This form is too old, or it is not from here. Go back, load the page again, and send it once more."
    return Told(HTTPStatus.FORBIDDEN, "Not sent", why)


def _not_there(error: Exception) -> Told:
    return Told(HTTPStatus.NOT_FOUND, "Not found", sentence(str(error)))


def _http(error: Exception) -> Told:
    status = HTTPStatus(error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST)
    why = "There is no such page." if status == HTTPStatus.NOT_FOUND else f"{status.phrase}."
    return Told(status, status.phrase.capitalize(), why)


def _invalid(error: Exception) -> Told:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    why = " ".join(_wrong(fault) for fault in faults[:3])
    return Told(HTTPStatus.UNPROCESSABLE_ENTITY, "Not understood", why)


def _wrong(fault: Mapping[str, Any]) -> str:
    """Returns a sentence for a fault that pydantic found. Pydantic's own words are for programmers."""
    name, limits = words(str(fault["loc"][-1])), fault.get("ctx", {})
    if fault["type"] == "missing":
        return f"The address or the form lacks this: {name}."
    if fault["type"] == "string_too_long":
        return f"This is too long: {name}. It may have {limits['max_length']:,} characters."
    return f"This value in the address or the form is not valid: {name}."


def _unusable(error: Exception) -> Told:
    log.warning("input_refused", error=f"{type(error).__name__}: {error}"[:300])
    why = "The address or the form holds a character or a number that cannot be used. Change it, and send it again."
    return Told(HTTPStatus.UNPROCESSABLE_ENTITY, "Not understood", why)


def _refused(error: Exception) -> Told:
    return Told(HTTPStatus.CONFLICT, "Not done", sentence(str(error)))


_NOT_REACHED: dict[type[Exception], str] = {
    BrokerUnavailableError: "The broker cannot be reached.",
    DatabaseUnavailableError: "The database does not answer.",
    StorageUnavailableError: "The storage does not answer.",
}


def _away(error: Exception) -> Told:
    """Leaves out the cause, because it names addresses of servers. The log has it."""
    what = next((said for kind, said in _NOT_REACHED.items() if isinstance(error, kind)), "The server is busy.")
    return Told(HTTPStatus.SERVICE_UNAVAILABLE, "Not available now", f"{what} Try again in a moment.")


def _misconfigured(_error: Exception) -> Told:
    why = "A setting of the server is wrong. Its operator finds the cause in its log."
    return Told(HTTPStatus.INTERNAL_SERVER_ERROR, "Not available now", why)


def _unexpected(_error: Exception) -> Told:
    why = "Something went wrong here. It is written to the server's log."
    return Told(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong", why)


_TOLD: dict[type[Exception], Callable[[Exception], Told]] = {
    ForbiddenError: _forbidden,
    CsrfError: _old_form,
    NoSuchContentError: _not_there,
    NoSuchScanError: _not_there,
    HTTPException: _http,
    RequestValidationError: _invalid,
    TransientError: _away,
    DataError: _unusable,
    UnicodeError: _unusable,
    OverflowError: _unusable,
    ConfigurationError: _misconfigured,
    FakesweepError: _refused,
    Exception: _unexpected,
}
