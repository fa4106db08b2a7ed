"""Who comes in to the review desk."""

from tests.desk import browser, csrf_of, desk_app, logged_in, person
from worker.database import Database


def test_somebody_logs_in_on_this_machine(database: Database) -> None:
    person(database, "heron")
    client = logged_in(desk_app(database), "heron")
    assert "heron" in client.get("/login").text


def test_a_form_without_its_token_is_refused(database: Database) -> None:
    person(database, "heron")
    client = browser(desk_app(database))
    client.get("/login")
    assert client.post("/login", data={"name": "heron"}).status_code == 403
    assert client.post("/login", data={"name": "heron", "csrf": "x"}).status_code == 403


def test_another_name_for_this_machine_is_refused(database: Database) -> None:
    client = browser(desk_app(database))
    assert client.get("/login", headers={"host": "evil.example"}).status_code == 403
    assert csrf_of(client.get("/login").text)
