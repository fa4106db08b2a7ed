"""What protects every page: headers, our own host name, tokens in forms, limits, and reports of what was stopped."""

import re
from typing import Annotated
from uuid import UUID

import pytest
from fastapi import Depends, FastAPI, Query
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from httpx2 import Headers
from starlette.routing import BaseRoute
from structlog.testing import capture_logs

from producers.web import csp_reports
from producers.web.csrf import SAFE
from producers.web.guards import API, HEADERS, MOST_BYTES
from producers.web.pages import Pages, pages_of
from tests.desk import ORIGIN, browser, csrf_of, desk_app, logged_in, person
from worker.database import Database
from worker.errors import NoSuchScanError
from worker.tables import DeskRole


@pytest.fixture
def app(database: Database) -> FastAPI:
    person(database, "heron", DeskRole.ADMIN)
    made = desk_app(database)

    @made.get("/breaks")
    def breaks() -> None:
        raise ZeroDivisionError

    @made.get("/says")
    def says(pages: Annotated[Pages, Depends(pages_of)], text: str) -> None:
        pages.say(text)

    @made.get("/asks")
    def asks(scan: UUID, number: int, sha256: Annotated[str, Query(pattern="^[0-9a-f]{64}$")]) -> None:
        raise AssertionError

    @made.get("/no_scan")
    def no_scan() -> None:
        raise NoSuchScanError("there is no scan of ACME; `fakesweep status` lists them")

    return made


def answers(app: FastAPI) -> dict[str, Headers]:
    client = logged_in(app, "heron")
    quiet = TestClient(app, base_url=ORIGIN, client=("127.0.0.1", 1), raise_server_exceptions=False)
    return {
        "page": client.get("/login").headers,
        "static": client.get("/static/desk.css").headers,
        "picture": client.get("/pictures/x").headers,
        "nothing": client.get("/nothing").headers,
        "static nothing": client.get("/static/nothing").headers,
        "wrong method": client.put("/login").headers,
        "refused": client.post("/login").headers,
        "wrong name": client.get("/login", headers={"host": "evil.example"}).headers,
        "too large": client.post("/login", content=b"x" * (MOST_BYTES + 1)).headers,
        "broken": quiet.get("/breaks").headers,
        "the API": client.get(f"{API}/nothing").headers,
        "to the login": browser(app).get("/pictures/x").headers,
    }


def test_every_answer_has_the_headers(app: FastAPI) -> None:
    for what, headers in answers(app).items():
        for name, value in HEADERS.items():
            assert headers.get(name) == value, (what, name)
        assert headers["cache-control"] == ("no-cache" if what.startswith("static") else "no-store"), what
    assert "script-src 'self'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    assert "//" not in HEADERS["Content-Security-Policy"], "nothing from other servers"


def changing(routes: list[BaseRoute]) -> list[tuple[str, str]]:
    """Every path and method that may change something, except those of the API, which has its own tokens."""
    found = []
    for route in routes:
        path = getattr(route, "path", "")
        if isinstance(route, APIRoute) and not path.startswith(API) and path != csp_reports.PATH:
            found += [(path, method) for method in route.methods - SAFE]
    return found


def test_every_change_needs_a_token(app: FastAPI) -> None:
    client = logged_in(app, "heron")
    token = csrf_of(client.get("/login").text)
    found = changing(app.router.routes)
    assert ("/logout", "POST") in found
    for path, method in found:
        address = re.sub(r"\{[^}]*\}", "00000000-0000-0000-0000-000000000000", path)
        for wrong in ({}, {"csrf": ""}, {"csrf": "x" * 43}, {"csrf": token[:-1]}):
            assert client.request(method, address, data=wrong).status_code == 403, (method, path, wrong)
        for header in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            answer = client.request(method, address, data={"csrf": token}, headers=header)
            assert answer.status_code == 403, (method, path, header)
    assert client.get("/pictures/x").status_code == 404, "still logged in"


def test_somebody_logs_out(app: FastAPI) -> None:
    client = logged_in(app, "heron")
    token = csrf_of(client.get("/login").text)
    own = {"origin": "http://127.0.0.1:8400", "sec-fetch-site": "same-origin"}
    done = client.post("/logout", data={"csrf": token}, headers=own)
    assert (done.status_code, done.headers["clear-site-data"]) == (303, '"cache"')
    assert client.get(done.headers["location"]).status_code == 200
    assert client.get("/pictures/x").status_code == 303


@pytest.mark.parametrize(
    "name",
    ["evil.example", "127.0.0.1.evil.example", "evil.example:8400", "localhost@evil.example", "evil.example#127.0.0.1",
     "evil.example?localhost", "", "localhost evil.example", "[::1", "127.0.0.1:x", "127.0.0.1/../evil.example"],
)  # fmt: skip
def test_another_host_name_is_refused(app: FastAPI, name: str) -> None:
    assert browser(app).get("/login", headers={"host": name}).status_code == 403


@pytest.mark.parametrize("name", ["localhost:8400", "127.0.0.1", "[::1]:8400", "127.0.0.2:8400", "LOCALHOST"])
def test_the_names_of_this_machine_are_accepted(app: FastAPI, name: str) -> None:
    assert browser(app).get("/login", headers={"host": name}).status_code == 200


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via", "x-real-ip", "x-forwarded-host"])
def test_the_demo_refuses_what_a_proxy_passes_on(app: FastAPI, header: str) -> None:
    assert browser(app).get("/login", headers={header: "1.2.3.4"}).status_code == 403


def test_a_large_body_is_refused_whether_or_not_it_says_its_size(app: FastAPI) -> None:
    client = browser(app)
    large = b"name=" + b"x" * MOST_BYTES
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/login", content=large, headers=form).status_code == 413
    assert client.post("/login", content=iter([large[:1000], large]), headers=form).status_code == 413
    assert client.post("/login", content=b"", headers=form | {"content-length": "-1"}).status_code == 413


def test_reports_of_browsers_are_counted_and_limited(app: FastAPI) -> None:
    client = browser(app)
    assert app.state.csp_reports.count == 0
    assert client.post(csp_reports.PATH, json={"csp-report": {}}).status_code == 204
    assert client.post(csp_reports.PATH, content=b"x" * (csp_reports.MOST_BYTES + 1)).status_code == 413
    assert app.state.csp_reports.count == 1


def test_few_reports_are_logged_and_all_are_counted() -> None:
    reports = csp_reports.Reports()
    with capture_logs() as logged:
        for number in range(1000):
            reports.add(f"{number}")
    assert reports.count == 1000
    assert [line["report"] for line in logged] == [f"{number}" for number in range(20)], "anybody may send them"


@pytest.mark.parametrize("value", ["null", "x", "e30=.x.y", ""])
def test_a_made_up_session_is_not_accepted(app: FastAPI, value: str) -> None:
    client = browser(app)
    client.cookies.set("fakesweep", value)
    assert client.get("/pictures/x").status_code == 303


def test_a_changed_session_is_not_accepted(app: FastAPI) -> None:
    client = logged_in(app, "heron")
    good = client.cookies["fakesweep"]
    other = browser(app)
    for place in range(0, len(good), 7):
        changed = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
        other.cookies.clear()
        other.cookies.set("fakesweep", changed)
        assert other.get("/pictures/x").status_code == 303, place


def test_a_session_ends(database: Database) -> None:
    import time

    from tests.desk import settings

    person(database, "heron")
    client = logged_in(desk_app(database, settings=settings(session_s=1)), "heron")
    client.get("/login")  # a request does not make it longer
    time.sleep(2.1)
    assert client.get("/pictures/x").status_code == 303


def test_a_picture_of_an_old_page_begins_no_login(app: FastAPI) -> None:
    assert browser(app).get("/pictures/x", headers={"sec-fetch-dest": "image"}).status_code == 401


@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_a_long_message_never_fills_the_cookie(app: FastAPI, letter: str) -> None:
    client = logged_in(app, "heron")
    client.get("/says", params={"text": letter * 5000})
    assert len(client.cookies["fakesweep"]) < 2000
    shown = client.get("/login").text
    assert letter * 15 in shown, "the beginning is shown"
    assert letter * 301 not in shown


def test_a_long_address_never_fills_the_cookie(app: FastAPI) -> None:
    client = browser(app)
    client.get("/queue?" + "é" * 500)
    client.get("/queue/" + "😀" * 500)
    assert len(client.cookies.get("fakesweep") or "") < 2000


def test_faults_are_explained_in_sentences(app: FastAPI) -> None:
    client = logged_in(app, "heron")
    told = client.get("/asks", params={"scan": "x", "sha256": "x"})
    assert told.status_code == 422
    for said in ("is not valid: scan.", "lacks this: number.", "is not valid: sha256."):
        assert said in told.text
    assert not any(word in told.text for word in ("pattern", "String", "UUID"))
    told = client.get("/no_scan")
    assert (told.status_code, "There is no scan of ACME." in told.text) == (404, True)
    assert "fakesweep status" not in told.text


def test_static_files_are_sent_once(app: FastAPI) -> None:
    client = browser(app)
    first = client.get("/static/desk.css")
    assert (first.status_code, first.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert client.get("/static/desk.css", headers={"if-none-match": first.headers["etag"]}).status_code == 304
    assert client.get("/static/desk.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/static/../app.py").status_code == 404
