"""The login to the review desk on this machine."""

import pytest

from tests.desk import browser, csrf_of, desk_app, logged_in, person
from worker.database import Database


def test_somebody_logs_in_on_this_machine(database: Database) -> None:
    person(database, "heron")
    client = logged_in(desk_app(database), "heron")
    assert client.get("/pictures/x").status_code == 404, "what needs a login is not refused"


def test_a_form_without_its_token_is_refused(database: Database) -> None:
    person(database, "heron")
    client = browser(desk_app(database))
    client.get("/login")
    assert client.post("/login", data={"name": "heron"}).status_code == 403
    assert client.post("/login", data={"name": "heron", "csrf": "x"}).status_code == 403


def test_a_login_under_another_host_name_is_refused(database: Database) -> None:
    client = browser(desk_app(database))
    assert client.get("/login", headers={"host": "evil.example"}).status_code == 403
    assert csrf_of(client.get("/login").text)


def form(token: str, name: str) -> str:
    """The fields as multipart/form-data, with the boundary x."""
    fields = {"csrf": token, "name": name}
    head = "--x\r\nContent-Disposition: form-data; name="
    return "".join(f'{head}"{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()) + "--x--\r\n"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 100_000])
def test_a_name_that_cannot_be_stored_logs_nobody_in(database: Database, name: str) -> None:
    client = browser(desk_app(database))
    token = csrf_of(client.get("/login").text)
    body = form(token, name)
    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/login", content=body.encode("utf-8", "surrogatepass"), headers=kind)
    assert answer.status_code in {303, 422}, answer.text
    assert answer.status_code == 422 or "\0" not in name
    assert client.get("/pictures/x").status_code == 303, "nobody is logged in"


@pytest.mark.parametrize("charset", ["undefined", "idna", "utf-7", "unicode_escape", "utf-16", "\0", "hex", "no_such"])
def test_a_form_in_another_encoding_is_refused(database: Database, charset: str) -> None:
    client = browser(desk_app(database))
    token = csrf_of(client.get("/login").text)
    body = form(token, "\\ud800")
    kind = {"content-type": f'multipart/form-data; boundary=x; charset="{charset}"'}
    assert client.post("/login", content=body.encode(), headers=kind).status_code == 415


def test_a_missing_field_is_named_in_plain_words(database: Database) -> None:
    client = browser(desk_app(database))
    answer = client.post("/login", data={"csrf": csrf_of(client.get("/login").text)})
    assert (answer.status_code, "The address or the form lacks this: name." in answer.text) == (422, True)
