"""Which token may do what: every endpoint of the API, with every scope and every method."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import update

from producers.tokens import withdraw_token
from tests.api import mounted, program, token_for
from worker.database import Database, connect, transaction
from worker.tables import ApiToken, Scope

SOME = str(uuid4())
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
ANYBODY = None

TABLE: dict[tuple[str, str], Scope | None] = {
    ("POST", "/submissions"): Scope.SUBMIT,
    ("GET", "/submissions/{submission_id}"): Scope.READ,
    ("GET", "/submissions/{submission_id}/findings"): Scope.READ,
    ("GET", "/scans"): Scope.READ,
    ("POST", "/scans"): Scope.SCAN,
    ("GET", "/scans/{scan_id}"): Scope.READ,
    ("POST", "/scans/{scan_id}/pause"): Scope.SCAN,
    ("POST", "/scans/{scan_id}/resume"): Scope.SCAN,
    ("POST", "/scans/{scan_id}/cancel"): Scope.SCAN,
    ("GET", "/scans/{scan_id}/findings"): Scope.READ,
    ("GET", "/contents/{sha256}"): Scope.READ,
    ("GET", "/reviews"): Scope.READ,
    ("POST", "/reviews"): Scope.REVIEW,
    ("GET", "/withdrawals"): Scope.READ,
    ("GET", "/health"): ANYBODY,
    ("GET", "/openapi.json"): ANYBODY,
}
"""The scope that each endpoint needs. There is no other endpoint."""

PATHS = list(dict.fromkeys(path for _, path in TABLE))
LET_IN = {200, 202, 404, 415, 422}
"""How an endpoint may answer an empty request when the token has its scope."""


@pytest.fixture(scope="module")
def app(postgres_server_url: str, template: str) -> Iterator[FastAPI]:
    from tests.roles import home

    with home(postgres_server_url, template) as made:
        database = connect(made.url)
        yield mounted(database)
        database.dispose()


@pytest.fixture(scope="module")
def tokens(app: FastAPI) -> dict[Scope, str]:
    database = _database(app)
    return {scope: token_for(database, scope) for scope in Scope}


def _database(app: FastAPI) -> Database:
    (mount,) = (route for route in app.routes if getattr(route, "path", "") == "/v1")
    database: Database = mount.app.state.parts.database  # type: ignore[attr-defined]
    return database


def address(path: str) -> str:
    return path.format(submission_id=SOME, scan_id=SOME, sha256="0" * 64)


def test_every_route_is_in_the_table(app: FastAPI) -> None:
    (mount,) = (route for route in app.routes if getattr(route, "path", "") == "/v1")
    routes: list[Any] = mount.app.routes  # type: ignore[attr-defined]
    methods = {(method, route.path) for route in routes for method in route.methods}
    assert methods - {("HEAD", "/openapi.json")} == set(TABLE)
    assert sum(isinstance(route, APIRoute) for route in routes) == len(TABLE) - 1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_each_endpoint_accepts_only_its_scope_and_method(
    app: FastAPI, tokens: dict[Scope, str], method: str, path: str
) -> None:
    for held, token in (*tokens.items(), (None, None)):
        answer = program(app, token).request(method, address(path))
        if (method, path) == ("HEAD", "/openapi.json"):
            assert answer.status_code == 200
        elif (method, path) not in TABLE:
            assert answer.status_code == 405, (held, answer.text)
            assert set(answer.headers["allow"].split(", ")) >= {one for one, at in TABLE if at == path}
        elif (needed := TABLE[method, path]) is ANYBODY:
            assert answer.status_code == 200
        elif held is None:
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        elif held is not needed:
            assert answer.status_code == 403, (held, answer.text)
            assert f'scope="{needed}"' in answer.headers["www-authenticate"]
        else:
            assert answer.status_code in LET_IN, (held, answer.text)
        if answer.status_code >= 400 and method != "HEAD":
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer x",
        "Bearer fakesweep_" + "A" * 43,
        "Basic aGVyb246eA==",
        "Bearer \x00",
        "Bearer " + "é" * 9,
    ],
)
def test_anything_but_a_token_is_refused(app: FastAPI, header: str) -> None:
    answer = program(app).get("/scans", headers={b"Authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert "WWW-Authenticate" in answer.headers


def test_a_token_that_is_withdrawn_or_expired_is_refused_at_once(app: FastAPI) -> None:
    database = _database(app)
    client = program(app, token_for(database, Scope.READ, name="gone"))
    other = program(app, token_for(database, Scope.READ, name="old"))
    assert [one.get("/scans").status_code for one in (client, other)] == [200, 200]
    withdraw_token(database, "gone")
    with transaction(database) as session:
        past = datetime.now(UTC) - timedelta(seconds=1)
        session.execute(update(ApiToken).where(ApiToken.name == "old").values(expires_at=past))  # type: ignore[arg-type]
    assert "withdrawn" in client.get("/scans").json()["detail"]
    assert "expired" in other.get("/scans").json()["detail"]
    assert [one.get("/scans").status_code for one in (client, other)] == [401, 401]


def test_the_description_says_which_scope_each_endpoint_needs(app: FastAPI) -> None:
    described = program(app).get("/openapi.json").json()
    assert described["servers"] == [{"url": "/v1"}]
    for (method, path), scope in TABLE.items():
        if path != "/openapi.json":
            operation = described["paths"][path][method.lower()]
            assert operation.get("security", []) == ([{"token": [scope]}] if scope else [])
