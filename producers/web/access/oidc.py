"""The login by OpenID Connect: authorization code flow with PKCE and a nonce. All addresses come from the issuer's
discovery document.
"""

import time
from typing import Any

import httpx2
import structlog
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from joserfc.errors import JoseError

from producers.web.access import sessions
from producers.web.access.identities import from_oidc
from producers.web.access.people import reviewer_with
from producers.web.access.strangers import stranger
from producers.web.pages import Pages
from producers.web.parts import AParts
from producers.web.settings import WebSettings

log = structlog.get_logger(__name__)

router = APIRouter(include_in_schema=False)

CALLBACK = "/login/callback"
TIMEOUT_S = 10
LEEWAY_S = 60
"""The largest accepted difference between the provider's clock and ours."""
_SIGNED_BY_THE_ISSUER = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
"""`none` is not in the list, although some providers offer it, and neither is HMAC, whose key others know."""
_BEGUN = "_state_"
"""The prefix of the names under which Authlib stores a login in the session."""
_MOST_BEGUN = 2
"""How many logins may be in progress at once, for example in two tabs. The session is a cookie, which cannot hold
many.
"""
_FAULTS = (AuthlibBaseError, JoseError, httpx2.HTTPError, ValueError, KeyError, TypeError, RuntimeError)
"""The errors that Authlib raises when a provider's answer is not what it should be."""


def client_of(settings: WebSettings) -> Any:
    """Returns Authlib's client of the issuer. It makes no request before somebody logs in."""
    secret = settings.oidc_client_secret.get_secret_value()
    return OAuth().register(
        "issuer",
        client_id=settings.oidc_client_id,
        client_secret=secret or None,
        server_metadata_url=f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={
            "scope": "openid",
            "code_challenge_method": "S256",
            "timeout": TIMEOUT_S,
            **({} if secret else {"token_endpoint_auth_method": "none"}),
        },
    )


@router.get("/login")
async def begin(request: Request, parts: AParts) -> Response:
    """Redirects the person to the issuer."""
    others = _begun(request)
    try:
        client = await _checked_client(request, parts.settings)
        answer: Response = await client.authorize_redirect(request, parts.settings.url.rstrip("/") + CALLBACK)
    except _FAULTS as error:
        return _failed(request, error, "The login service does not answer as it should. Try again in a moment.", 502)
    request.session.update(others[: _MOST_BEGUN - 1])  # Authlib keeps only the login that has just begun
    return answer


@router.get(CALLBACK)
async def come_back(request: Request, parts: AParts) -> Response:
    """Logs in the person whom the issuer names."""
    settings = parts.settings
    try:
        if request.query_params.get("iss", settings.oidc_issuer) != settings.oidc_issuer:
            raise ValueError("another issuer answers")
        client = await _checked_client(request, settings)
        claims = {
            "iss": {"essential": True, "value": settings.oidc_issuer},
            "aud": {"essential": True, "value": settings.oidc_client_id},
        }
        token = await client.authorize_access_token(request, claims_options=claims, leeway=LEEWAY_S)
        identity = from_oidc(settings.oidc_issuer, token["userinfo"]["sub"])
        if identity is None:
            raise ValueError("the issuer's name for this person cannot be used")
    except _FAULTS as error:
        return _failed(request, error, "The login did not succeed, or it took too long. Log in again.", 403)
    if await run_in_threadpool(reviewer_with, parts.database, identity) is None:
        return stranger(request, identity)
    others = _begun(request)  # another tab may still come back with its own login
    address = sessions.begin(request, identity)
    request.session.update(others)
    return RedirectResponse(address, status_code=303)


def _begun(request: Request) -> list[tuple[str, Any]]:
    """Returns the session's entries for logins that are in progress, the newest first."""
    found = [(name, value) for name, value in request.session.items() if name.startswith(_BEGUN)]
    return sorted((one for one in found if one[1]["exp"] > time.time()), key=lambda one: -one[1]["exp"])


async def _checked_client(request: Request, settings: WebSettings) -> Any:
    """Returns the client, after a check that the issuer is the configured one. Raises one of _FAULTS."""
    client = request.app.state.oidc
    metadata = await client.load_server_metadata()
    if metadata["issuer"] != settings.oidc_issuer:
        metadata.pop("_loaded_at", None)  # the next login asks again
        raise ValueError(f"the issuer calls itself {metadata['issuer']!r}: FAKESWEEP_WEB_OIDC_ISSUER must be just that")
    listed = metadata.get("id_token_signing_alg_values_supported", ["RS256"])
    metadata["id_token_signing_alg_values_supported"] = [one for one in listed if one in _SIGNED_BY_THE_ISSUER]
    return client


def _failed(request: Request, error: Exception, why: str, status: int) -> HTMLResponse:
    log.warning("login_failed", error=f"{type(error).__name__}: {error}"[:300])
    return Pages(request).show("login_failed.html.j2", status=status, why=why)
