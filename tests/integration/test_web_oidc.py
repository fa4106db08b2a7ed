"""The login by OpenID Connect, with a provider that does everything right, and with one that does not."""

import html
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from producers.reviews import add_reviewer, disable_reviewer
from producers.web.settings import LoginKind
from tests.desk import desk_app, settings
from tests.oidc_provider import CLIENT, SECRET, Claims, Provider, served, unsigned
from worker.database import Database
from worker.tables import DeskRole

URL = "https://desk.example"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with served(Provider()) as made:
        yield made


@pytest.fixture
def app(provider: Provider, database: Database) -> FastAPI:
    add_reviewer(database, "heron", role=DeskRole.LEAD, logins=[f"oidc:{provider.issuer}|u-17"])
    return made(provider, database)


def made(provider: Provider, database: Database, **changes: Any) -> FastAPI:
    given: dict[str, Any] = {
        "login": LoginKind.OIDC, "url": URL, "oidc_issuer": provider.issuer, "oidc_client_id": CLIENT,
        "oidc_client_secret": SECRET,
    }  # fmt: skip
    return desk_app(database, settings=settings(**given | changes))


def browser(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=URL, follow_redirects=False)


def log_in(client: TestClient) -> Any:
    """Logs in. Returns the desk's answer to the browser that comes back from the provider."""
    begun = client.get("/login")
    assert begun.status_code == 302, begun.text
    return client.get(httpx2.get(begun.headers["location"]).headers["location"])


def is_in(client: TestClient) -> bool:
    """Whether somebody is logged in. It asks for a picture, which needs only a login."""
    return client.get("/pictures/x").status_code == 404


def test_a_reviewer_logs_in(app: FastAPI, provider: Provider) -> None:
    client = browser(app)
    assert not is_in(client)
    done = log_in(client)
    assert (done.status_code, done.headers["location"]) == (303, "/pictures/x"), "where they wanted to go"
    assert is_in(client)
    (asked,) = provider.asked
    assert (asked["response_type"], asked["scope"], asked["code_challenge_method"]) == ("code", "openid", "S256")
    assert asked["redirect_uri"] == f"{URL}/login/callback"
    assert asked["nonce"]
    cookie = done.headers["set-cookie"]
    assert cookie.startswith("__Host-fakesweep=")
    assert {"httponly", "secure", "samesite=lax", "path=/", "Max-Age=28800"} <= set(cookie.split("; "))


def test_a_login_ends_the_session_before_it(app: FastAPI) -> None:
    client = browser(app)
    client.get("/logged-out")
    before = client.cookies["__Host-fakesweep"]
    log_in(client)
    assert client.cookies["__Host-fakesweep"] != before
    stale = browser(app)
    stale.cookies.set("__Host-fakesweep", before)
    assert not is_in(stale)


def test_a_person_who_is_no_reviewer_sees_under_which_login(
    app: FastAPI, provider: Provider, database: Database
) -> None:
    provider.claims = lambda claims: claims | {"sub": "o'<b>"}
    client = browser(app)
    answer = log_in(client)
    assert answer.status_code == 403
    identity = f"oidc:{provider.issuer}|o'<b>"
    assert f"You are logged in as {identity}" in html.unescape(answer.text).replace("<code>", "").replace("</code>", "")
    assert "<b>" not in answer.text
    assert not is_in(client)
    add_reviewer(database, "crane", logins=[identity])
    assert log_in(client).status_code == 303


def changed(**changes: Any) -> Callable[[Claims], Claims]:
    return lambda claims: {name: value for name, value in (claims | changes).items() if value is not None}


def with_the_public_key(claims: Claims, key: RSAKey) -> str:
    """A token signed with the public key, as if it were a secret."""
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(key.as_pem(private=False)))


OTHER = RSAKey.generate_key(2048, {"kid": "1"})


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("claims", changed(nonce="another")),
        ("claims", changed(nonce=None)),
        ("claims", changed(iss="https://evil.example")),
        ("claims", changed(iss=None)),
        ("claims", changed(aud="another client")),
        ("claims", changed(aud="another client", azp=CLIENT)),
        ("claims", changed(aud=None)),
        ("claims", changed(exp=int(time.time()) - 3600)),
        ("claims", changed(exp=None)),
        ("claims", changed(sub=None)),
        ("claims", changed(sub="")),
        ("claims", changed(sub=17)),
        ("claims", changed(sub="u-17\n")),
        ("claims", changed(sub="x" * 256)),
        ("sign", lambda claims, _key: jwt.encode({"alg": "RS256", "kid": "1"}, claims, OTHER)),
        ("sign", unsigned),
        ("sign", with_the_public_key),
        ("sign", lambda _claims, _key: "no.token.at-all"),
        ("sign", lambda _claims, _key: None),
    ],
)
def test_a_wrong_token_lets_nobody_in(app: FastAPI, provider: Provider, what: str, wrong: Any) -> None:
    setattr(provider, what, wrong)
    client = browser(app)
    answer = log_in(client)
    assert (answer.status_code, "Log in again" in answer.text) == (403, True)
    assert not is_in(client)


def test_a_code_of_another_browser_lets_nobody_in(app: FastAPI) -> None:
    """A code that was used already is refused, too. Otherwise, somebody could be logged in as somebody else."""
    one, other = browser(app), browser(app)
    back = httpx2.get(one.get("/login").headers["location"]).headers["location"]
    other.get("/login")
    assert other.get(back).status_code == 403
    assert one.get(back).status_code == 303
    assert one.get(back).status_code == 403
    for query in ("", "?code=x", "?state=x", "?error=access_denied", "?code=x&state=y"):
        assert browser(app).get(f"/login/callback{query}").status_code == 403
    assert not is_in(other)


def test_the_answer_of_another_issuer_is_refused(app: FastAPI) -> None:
    client = browser(app)
    back = httpx2.get(client.get("/login").headers["location"]).headers["location"]
    assert client.get(f"{back}&iss=https://evil.example").status_code == 403


def test_an_issuer_that_gives_another_name_is_refused(app: FastAPI, provider: Provider) -> None:
    provider.metadata = {"issuer": "https://evil.example"}
    assert browser(app).get("/login").status_code == 502
    provider.metadata = {}
    assert browser(app).get("/login").status_code == 302, "it is asked again"


def test_an_unavailable_provider_is_a_502(provider: Provider, database: Database) -> None:
    app = made(provider, database, oidc_issuer="http://127.0.0.1:9")
    assert browser(app).get("/login").status_code == 502


def test_many_unfinished_logins_do_not_fill_the_cookie(app: FastAPI) -> None:
    client = browser(app)
    for _ in range(12):
        client.get("/login")
    assert len(client.cookies["__Host-fakesweep"]) < 3000
    assert log_in(client).status_code == 303


def test_logins_in_two_tabs_both_succeed(app: FastAPI) -> None:
    client = browser(app)
    backs = [httpx2.get(client.get("/login").headers["location"]).headers["location"] for _ in range(2)]
    for back in backs:
        assert client.get(back).status_code == 303
        assert is_in(client)
    assert client.get(backs[0]).status_code == 403, "each works once"


def test_a_disabled_reviewer_is_logged_out_at_once(app: FastAPI, database: Database) -> None:
    client = browser(app)
    log_in(client)
    disable_reviewer(database, "heron")
    assert not is_in(client)
    assert log_in(client).status_code == 403


def test_a_session_of_the_demo_is_not_accepted_here(app: FastAPI, database: Database) -> None:
    from tests.desk import logged_in

    demo = logged_in(desk_app(database), "heron")
    client = browser(app)
    client.cookies.set("__Host-fakesweep", demo.cookies["fakesweep"])
    assert not is_in(client)
