"""The composition root of the web process: parts -> app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.sessions import SessionMiddleware
from starlette.types import ASGIApp

from producers.web import csp_reports, overview, pages
from producers.web.access import demo, leaving, oidc, proxy
from producers.web.api.app import create_api
from producers.web.desk.routes import router as desk
from producers.web.faults import add_faults
from producers.web.guards import BodyLimit, OwnNames, SecurityHeaders
from producers.web.left_behind import LeftBehind
from producers.web.parts import Parts
from producers.web.pictures import Pictures
from producers.web.pictures import router as pictures
from producers.web.settings import LoginKind
from producers.web.static_files import KeptFiles

_LOGINS = {LoginKind.DEMO: demo.router, LoginKind.OIDC: oidc.router, LoginKind.PROXY: proxy.router}


class Desk(FastAPI):
    """The app and its guards. The guards are the outermost layer, so that error answers pass through them too."""

    def build_middleware_stack(self) -> ASGIApp:
        """See Starlette."""
        inner = BodyLimit(super().build_middleware_stack())
        return SecurityHeaders(OwnNames(inner, self.state.parts.settings))


def create_app(parts: Parts) -> FastAPI:
    """Makes the app for the desk and the API."""
    app = Desk(title="Fakesweep", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan)
    settings = parts.settings
    app.state.parts = parts
    app.state.pictures = Pictures(parts)
    app.state.templates = pages.environment()
    app.state.csp_reports = csp_reports.Reports()
    is_secure = settings.url.startswith("https://")
    app.add_middleware(
        SessionMiddleware,
        secret_key=settings.secret.get_secret_value(),
        session_cookie="__Host-fakesweep" if is_secure else "fakesweep",
        max_age=settings.session_s,
        same_site="lax",
        https_only=is_secure,
    )
    add_faults(app)
    if settings.login is LoginKind.OIDC:
        app.state.oidc = oidc.client_of(settings)
    for router in (_LOGINS[settings.login], leaving.router, csp_reports.router, pictures, overview.router, desk):
        app.include_router(router)
    app.mount("/v1", create_api(parts), name="api")
    app.mount("/static", KeptFiles(str(files("producers.web") / "static")), name="static")
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    left_behind = LeftBehind(parts.broker, parts.database)
    left_behind.start()
    yield
    app.state.pictures.close()
    await run_in_threadpool(left_behind.close)
    await run_in_threadpool(parts.scans.close)
