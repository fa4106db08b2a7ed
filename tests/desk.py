"""The web process in a test: its app on a database, a store in memory, and people who are logged in."""

import re
from typing import Any

from celery import Celery
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlmodel import col

from producers.reviews import add_reviewer
from producers.web.app import create_app
from producers.web.parts import Parts
from producers.web.settings import LoginKind, WebSettings
from worker.database import Database, transaction
from worker.tables import DeskRole, Reviewer
from worker.testing import InMemoryImageStore

ORIGIN = "http://127.0.0.1:8400"


def settings(**changes: Any) -> WebSettings:
    """The settings of the demo's login, whatever the environment says."""
    return WebSettings.model_validate({"secret": "s" * 32, "login": LoginKind.DEMO, **changes})


def parts(database: Database, **changes: Any) -> Parts:
    """Parts with an empty store, and a broker that nothing is published to."""
    return Parts(
        **{"settings": settings(), "database": database, "store": InMemoryImageStore({}), "broker": Celery()} | changes
    )


def person(database: Database, name: str, role: DeskRole = DeskRole.REVIEWER) -> None:
    """Lets somebody come in with a role."""
    add_reviewer(database, name)
    with transaction(database) as session:
        session.execute(update(Reviewer).where(col(Reviewer.name) == name).values(role=role))


def browser(app: FastAPI) -> TestClient:
    """A browser on this machine that nobody is logged in with."""
    return TestClient(app, base_url=ORIGIN, client=("127.0.0.1", 50000), follow_redirects=False)


def csrf_of(text: str) -> str:
    """The token in the first form of a page."""
    found = re.search(r'name="csrf" value="([^"]+)"', text)
    assert found, text
    return found[1]


def logged_in(app: FastAPI, name: str) -> TestClient:
    """A browser in which somebody is logged in."""
    client = browser(app)
    token = csrf_of(client.get("/login").text)
    answer = client.post("/login", data={"name": name, "csrf": token})
    assert answer.status_code == 303, answer.text
    return client


def desk_app(database: Database, **changes: Any) -> FastAPI:
    """The app, with parts of which some are changed."""
    return create_app(parts(database, **changes))
