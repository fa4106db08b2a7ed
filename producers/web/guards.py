"""Guards before the whole app: headers on every answer, the names that it answers to, and a limit on bodies."""

import re
from urllib.parse import urlsplit

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.web import csp_reports
from producers.web.settings import WebSettings, is_loopback

API = "/v1"
MOST_BYTES = 2**18
"""The largest form. The API has a limit of its own."""

# `report-uri` and not `report-to`, because browsers send reports of the latter a minute later, and only over https.
POLICY = "; ".join((
    "default-src 'none'", "img-src 'self'", "style-src 'self'", "script-src 'self'", "connect-src 'self'",
    "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'", f"report-uri {csp_reports.PATH}",
))  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with it, browsers would send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
}
_STATIC = "/static/"


class SecurityHeaders:
    """Sets the headers of HEADERS on every answer, and `Cache-Control: no-store` where the app has set none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-cache" if scope["path"].startswith(_STATIC) else "no-store")
            await send(message)

        await self._app(scope, receive, guarded if scope["type"] == "http" else send)


class OwnNames:
    """Refuses requests for a name that is not ours, because such a page would be part of somebody else's site.

    Our name is that of FAKESWEEP_WEB_URL or, without it, any name of this machine. The API is not checked: programs
    call it with a token, under any name that the network has for us.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings) -> None:
        self._app = app
        self._own = urlsplit(settings.url).netloc.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and not _of_api(scope):
            given = Headers(scope=scope).getlist("host")
            if len(given) != 1 or not self._is_own(given[0].lower()):
                answer = PlainTextResponse("This server has another name.\n", status_code=403)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_own(self, name: str) -> bool:
        if self._own:
            return name in {self._own, self._own.removesuffix(":443"), f"{self._own}:443"}
        # Only a name and a port are allowed: urlsplit would look for the name behind an @.
        return bool(re.fullmatch(r"[a-z0-9.\-]+(:\d+)?|\[[0-9a-f:.]+\](:\d+)?", name)) and is_loopback(
            urlsplit(f"//{name}").hostname or ""
        )


class BodyLimit:
    """Answers 413 to a body that is larger than any of our forms, and 415 to a form in another encoding."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or _of_api(scope):
            await self._app(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MOST_BYTES:
                raise HTTPException(413)
            return message

        said = Headers(scope=scope).get("content-length", "0")
        if not said.isdecimal() or int(said) > MOST_BYTES:
            await PlainTextResponse("The form is too large.\n", status_code=413)(scope, receive, send)
            return
        if not _is_utf8(Headers(scope=scope).get("content-type", "")):
            await PlainTextResponse("Forms are sent in UTF-8.\n", status_code=415)(scope, receive, send)
            return
        await self._app(scope, counted, send)


def _is_utf8(kind: str) -> bool:
    """Python has codecs that never end, or that make characters which nobody can store."""
    charset = parse_options_header(kind)[1].get(b"charset", b"utf-8")
    return charset.lower() in {b"utf-8", b"utf8"}


def _of_api(scope: Scope) -> bool:
    return bool(scope["path"] == API or scope["path"].startswith(f"{API}/"))
