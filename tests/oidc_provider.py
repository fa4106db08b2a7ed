"""A small OpenID provider for tests: discovery, authorize, token and keys. Each of them can be made to go wrong."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "desk", "the client's secret"
Claims = dict[str, Any]


@dataclass
class Provider:
    """The provider, and its errors. `claims` may change the content of a token, and `sign` its signature."""

    issuer: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "1"}))
    metadata: dict[str, Any] = field(default_factory=dict)
    claims: Callable[[Claims], Claims] = lambda claims: claims
    sign: Callable[[Claims, RSAKey], str | None] = lambda claims, key: jwt.encode(
        {"alg": "RS256", "kid": "1"}, claims, key
    )
    asked: list[dict[str, str]] = field(default_factory=list)
    """The parameters of all requests to `authorize`."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def discovery(self) -> dict[str, Any]:
        """Returns the metadata."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            **self.metadata,
        }

    def authorize(self, query: dict[str, str]) -> str:
        """Returns the address to which the browser is sent back."""
        self.asked.append(query)
        code = uuid4().hex
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """Returns the tokens for a code, once, if the client has the verifier and the secret."""
        asked = self.codes.pop(form.get("code", ""), None)
        basic = base64.b64encode(f"{CLIENT}:the%20client%27s%20secret".encode()).decode()
        plain = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        expected = base64.urlsafe_b64encode(challenge).rstrip(b"=").decode()
        known = authorization in {f"Basic {basic}", f"Basic {plain}"}
        if asked is None or not known or asked.get("code_challenge") != expected:
            return None
        now = int(time.time())
        said = {"iss": self.issuer, "aud": CLIENT, "sub": "u-17", "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        signed = self.sign(self.claims(said), self.key)
        return {"access_token": uuid4().hex, "token_type": "Bearer", **({"id_token": signed} if signed else {})}


def unsigned(claims: Claims, _key: RSAKey) -> str:
    """Returns a token with the algorithm `none`, which proves nothing."""
    parts = ({"alg": "none"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in parts) + "."


def app_of(provider: Provider) -> FastAPI:
    """The provider over HTTP."""
    app = FastAPI()

    @app.get("/.well-known/openid-configuration")
    def discovery() -> dict[str, Any]:
        return provider.discovery()

    @app.get("/keys")
    def keys() -> dict[str, Any]:
        return {"keys": [provider.key.as_dict(private=False)]}

    @app.get("/authorize")
    def authorize(request: Request) -> Response:
        return RedirectResponse(provider.authorize(dict(request.query_params)), status_code=302)

    @app.post("/token")
    async def token(request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        given = provider.token(form, request.headers.get("authorization", ""))
        return JSONResponse(given or {"error": "invalid_grant"}, 200 if given else 400)

    return app


@contextmanager
def served(provider: Provider) -> Iterator[Provider]:
    """Serves the provider on this machine until the body ends."""
    server = uvicorn.Server(uvicorn.Config(app_of(provider), port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    provider.issuer = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.should_exit = True
        thread.join()
