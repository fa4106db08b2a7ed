"""The login by a proxy's headers."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from producers.reviews import add_reviewer, unlink_reviewer
from producers.web.settings import LoginKind
from tests.desk import desk_app, settings
from worker.database import Database

URL = "https://desk.example"
SECRET = "p" * 32
ANNA = {"X-Fakesweep-Proxy-Secret": SECRET, "X-Forwarded-User": "anna"}


@pytest.fixture
def app(database: Database) -> FastAPI:
    add_reviewer(database, "heron", logins=["proxy:anna"])
    add_reviewer(database, "crane", logins=["proxy:bert", "proxy:jürgen"])
    own = settings(login=LoginKind.PROXY, url=URL, proxy_secret=SECRET)
    return desk_app(database, settings=own)


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=URL, follow_redirects=False)


def status(client: TestClient, headers: dict[str, str]) -> int:
    """The status of a page that needs a login and does not exist."""
    return client.get("/pictures/x", headers=headers).status_code


def test_the_person_that_the_proxy_names_is_logged_in(client: TestClient) -> None:
    assert status(client, ANNA) == 303
    assert client.get("/login", headers=ANNA).status_code == 303
    assert status(client, ANNA) == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Forwarded-User": "anna"},
        ANNA | {"X-Fakesweep-Proxy-Secret": ""},
        ANNA | {"X-Fakesweep-Proxy-Secret": SECRET[:-1]},
        ANNA | {"X-Fakesweep-Proxy-Secret": f"{SECRET}x"},
        ANNA | {"X-Fakesweep-Proxy-Secret": "é" * 32},
        {"X-Fakesweep-Proxy-Secret": SECRET},
        ANNA | {"X-Forwarded-User": ""},
        ANNA | {"X-Forwarded-User": "x" * 256},
        ANNA | {"X-Forwarded-User": "anna,bert"},
    ],
)
def test_wrong_headers_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    encoded = {name.encode(): value.encode() for name, value in headers.items()}
    assert client.get("/login", headers=encoded).status_code == 403
    assert client.get("/pictures/x", headers=encoded).status_code == 303


def test_a_header_that_comes_twice_is_refused(client: TestClient) -> None:
    """One header is the proxy's. The other one is the client's, and the proxy let it through."""
    for name, value in (("X-Forwarded-User", "bert"), ("X-Fakesweep-Proxy-Secret", "x")):
        assert client.get("/login", headers=[*ANNA.items(), (name, value)]).status_code == 403


def test_without_the_headers_a_session_is_not_accepted(client: TestClient) -> None:
    client.get("/login", headers=ANNA)
    assert status(client, {}) == 303
    assert status(client, ANNA | {"X-Fakesweep-Proxy-Secret": "x" * 32}) == 303
    assert status(client, ANNA) == 404


def test_another_person_at_the_same_browser_gets_a_session_of_their_own(client: TestClient) -> None:
    client.get("/login", headers=ANNA)
    bert = ANNA | {"X-Forwarded-User": "bert"}
    assert status(client, bert) == 303
    client.get("/login", headers=bert)
    assert status(client, bert) == 404
    assert status(client, ANNA) == 303


def test_a_name_with_letters_beyond_ascii_is_accepted(client: TestClient) -> None:
    headers = {name.encode(): value.encode() for name, value in (ANNA | {"X-Forwarded-User": "jürgen"}).items()}
    assert client.get("/login", headers=headers).status_code == 303


def test_a_person_who_loses_the_login_is_logged_out_at_once(client: TestClient, database: Database) -> None:
    client.get("/login", headers=ANNA)
    unlink_reviewer(database, "heron")
    assert status(client, ANNA) == 303
    answer = client.get("/login", headers=ANNA)
    assert (answer.status_code, "fakesweep reviewer add NAME --login proxy:anna" in answer.text) == (403, True)


@pytest.mark.parametrize("name", ["evil.example", "desk.example.evil.example", "desk.example:444", "127.0.0.1", ""])
def test_another_host_name_is_refused(client: TestClient, name: str) -> None:
    assert client.get("/login", headers=ANNA | {"host": name}).status_code == 403
    assert client.get("/login", headers=ANNA | {"host": "desk.example:443"}).status_code == 303


@pytest.mark.parametrize("name", ["😀" * 100, "x" * 256])
def test_a_name_that_would_fill_the_cookie_is_refused_with_the_reason(client: TestClient, name: str) -> None:
    headers = {key.encode(): value.encode() for key, value in (ANNA | {"X-Forwarded-User": name}).items()}
    answer = client.get("/login", headers=headers)
    assert (answer.status_code, "The name that the proxy gives you is too long" in answer.text) == (403, True)
