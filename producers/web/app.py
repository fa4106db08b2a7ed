"""The composition root of the web process: parts -> app."""

from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.sessions import SessionMiddleware

from producers.web import pages
from producers.web.access import demo
from producers.web.access.people import ForbiddenError, NotLoggedInError
from producers.web.api.app import create_api
from producers.web.csrf import CsrfError
from producers.web.parts import Parts
from producers.web.settings import LoginKind


def create_app(parts: Parts) -> FastAPI:
    """The app that answers for the desk and for the API."""
    app = FastAPI(title="Fakesweep", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.parts = parts
    app.state.templates = pages.environment()
    settings = parts.settings
    app.add_middleware(
        SessionMiddleware,
        secret_key=settings.secret.get_secret_value(),
        session_cookie="fakesweep",
        max_age=settings.session_s,
        same_site="lax",
        https_only=settings.login is not LoginKind.DEMO,
    )
    app.add_exception_handler(NotLoggedInError, _to_login)
    app.add_exception_handler(ForbiddenError, _refused)
    app.add_exception_handler(CsrfError, _refused)
    if settings.login is LoginKind.DEMO:
        app.include_router(demo.router)
    app.mount("/v1", create_api(parts), name="api")
    app.mount("/static", StaticFiles(directory=str(files("producers.web") / "static")), name="static")
    return app


def _to_login(_request: Request, _error: Exception) -> Response:
    return RedirectResponse("/login", status_code=303)


def _refused(request: Request, error: Exception) -> Response:
    return pages.Pages(request).show("refused.html.j2", status=403, why=str(error))
