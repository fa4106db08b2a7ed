"""The browser of a reviewer, for benchmarks: sends what our script sends, and loads what it loads."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from html import unescape
from typing import Any, Self
from urllib.parse import urlencode

from celery import Celery
from fastapi.testclient import TestClient
from sqlalchemy import text

from producers.web.app import create_app
from producers.web.parts import Parts
from producers.web.settings import LoginKind, WebSettings
from worker.database import Database, transaction
from worker.settings import Settings
from worker.storage import open_stores
from worker.tables import DeskRole

_SCRIPT = {"Accept": "application/json"}
_PERSON = """
INSERT INTO reviewers (name, role) VALUES (:name, :role)
ON CONFLICT (name) DO UPDATE SET role = excluded.role
"""


class NothingWaitsError(Exception):
    """The desk has returned to the queue, because nothing waits."""


class Browser:
    """A person at the desk. Methods such as `press` raise NothingWaitsError, and httpx's errors for refusals."""

    def __init__(self, client: TestClient, name: str) -> None:
        self._client = client
        token = _field(client.get("/login").text, "csrf")
        client.post("/login", data={"name": name, "csrf": token}, follow_redirects=False)
        self._query = self._address = self._page = ""

    @classmethod
    @contextmanager
    def all(cls, database: Database, people: Mapping[str, DeskRole], **settings: Any) -> Iterator[dict[str, Self]]:
        """Gives a browser for each of these people on one app. The people are added to the reviewers."""
        own = WebSettings.model_validate({"secret": "s" * 32, "login": LoginKind.DEMO, **settings})
        app = create_app(Parts(settings=own, database=database, store=open_stores(Settings()), broker=Celery()))
        with transaction(database) as session:
            for name, role in people.items():
                session.execute(text(_PERSON), {"name": name, "role": role})
        with ExitStack() as stack:
            browsers = {}
            for name in people:
                client = TestClient(app, base_url="http://127.0.0.1:8400", client=("127.0.0.1", 1))
                browsers[name] = cls(stack.enter_context(client), name)
            yield browsers

    def begin(self, filters: Mapping[str, str]) -> None:
        """Claims the first content under these filters, and opens it."""
        self._query = f"?{urlencode(filters)}" if filters else ""
        self._send("/next", {"csrf": _field(self.get("/queue"), "csrf")})

    def press(self) -> None:
        """Decides about the open content, and opens the next one."""
        if "/items/" not in self._address:
            raise NothingWaitsError
        page = self._page
        names = ("csrf", "claim", "scan_id", "uri", "verdict_id")
        form = {name: _field(page, name) for name in names} | {"statement": "fake", "note": "looks so"}
        self._send(f"{self._path}/decide", form)

    def skip(self) -> None:
        """Skips the open content, and opens the next one."""
        if "/items/" in self._address:
            self._send(f"{self._path}/skip", {"csrf": _field(self._page, "csrf")})

    def undo(self) -> None:
        """Withdraws the newest decision, and opens its content again."""
        self._send("/undo", {"csrf": _field(self._page, "csrf")})

    def picture(self) -> bytes:
        """Loads the clear picture of the open content."""
        return self._got(re.findall(r'class="clear" src="([^"]+)"', self._page)[0])

    def queue(self, filters: Mapping[str, str]) -> str:
        """Opens the first page of the queue."""
        return self.get(f"/queue?{urlencode(filters)}")

    def second_page(self, filters: Mapping[str, str]) -> Callable[[], str]:
        """Returns a function that opens the second page of the queue."""
        address = re.findall(r'href="(/queue[^"]*after=[^"]+)"', self.queue(filters))[0]
        return lambda: self.get(address)

    def get(self, address: str) -> str:
        """Opens a page."""
        return self._got(address).decode()

    @property
    def _path(self) -> str:
        return self._address.partition("?")[0]

    def _got(self, address: str) -> bytes:
        answer = self._client.get(unescape(address))
        answer.raise_for_status()
        return answer.content

    def _send(self, path: str, form: dict[str, str]) -> None:
        answer = self._client.post(f"{path}{self._query}", data=form, headers=_SCRIPT)
        answer.raise_for_status()
        self._address = answer.json()["next"]
        self._page = self.get(self._address)


def _field(page: str, name: str) -> str:
    return unescape(re.findall(rf'name="{name}" value="([^"]*)"', page)[0])
