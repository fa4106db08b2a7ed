"""Eight people review at once while the web process is killed at random: nothing is decided twice, nothing is lost."""

import random
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from sqlalchemy import text
from sqlmodel import Session, select

from tests.desk import Desk, csrf_of, drawn, in_folder, person, serving, swept
from worker.database import Database
from worker.storage import LocalImageStore
from worker.tables import Review

ITEMS, REVIEWERS = 500, 8
KILLS = 5


class Somebody:
    """A reviewer with a browser that sends a form again when the server does not answer."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.name, self.decided = name, list[str]()
        self._client = httpx.Client(base_url=desk.address, timeout=20)
        token = csrf_of(self._again("GET", "/login").text)
        self._again("POST", "/login", {"name": name, "csrf": token})
        self._token = csrf_of(self._again("GET", "/queue").text)

    def work(self) -> None:
        """Decides every item that it gets, until it has got none for a while."""
        idle_until = time.monotonic() + 15
        address = "/queue"
        while time.monotonic() < idle_until:
            found = re.match(r"/items/([0-9a-f]{64})", address)
            if found is None:
                time.sleep(0.2)
                address = self._sent("/next", {})
                continue
            idle_until = time.monotonic() + 15
            address = self._decide(found[1])

    def _decide(self, sha256: str) -> str:
        page = self._again("GET", f"/items/{sha256}").text
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
        if not hidden.get("claim"):
            return self._sent("/next", {})
        address = self._sent(f"/items/{sha256}/decide", hidden | {"statement": "fake"})
        if address != "lost":
            self.decided.append(sha256)
            return address
        return self._sent("/next", {})

    def _sent(self, path: str, form: dict[str, str]) -> str:
        answer = self._again("POST", path, form | {"csrf": self._token}, {"Accept": "application/json"})
        if answer.status_code == 409:
            return "lost"
        assert answer.status_code == 200, answer.text
        return str(answer.json()["next"])

    def _again(
        self, method: str, path: str, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        for _ in range(120):
            try:
                answer = self._client.request(method, path, data=form, headers=headers)
            except httpx.TransportError:
                time.sleep(0.25)
                continue
            if answer.status_code < 500:
                return answer
            time.sleep(0.25)
        raise AssertionError(f"{self.name} got no answer from {path}")


def kill_at_random(desk: Desk, database: Database) -> int:
    """Kills the process at regular numbers of reviews, whatever it does at that moment. Returns how often."""
    chance, kills = random.Random(15), 0
    while kills < KILLS:
        until = (kills + 1) * ITEMS // (KILLS + 1)
        while stored(database) < until:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.5))
        desk.kill()
        desk.start()
        kills += 1
    return kills


def stored(database: Database) -> int:
    with Session(database) as session:
        return int(session.connection().execute(text("SELECT count(*) FROM reviews")).scalar_one())


def test_nothing_is_decided_twice_or_lost(database: Database, tmp_path: Path) -> None:
    swept(database, LocalImageStore(max_bytes=2**20), in_folder(tmp_path / "images", drawn(ITEMS, edge=48)))
    names = [f"reviewer-{number}" for number in range(REVIEWERS)]
    for name in names:
        person(database, name)
    with serving(database, tmp_path) as desk:
        people = [Somebody(desk, name) for name in names]
        with ThreadPoolExecutor(REVIEWERS) as threads:
            work = [threads.submit(one.work) for one in people]
            assert kill_at_random(desk, database) == KILLS
            for one in work:
                one.result()
    with Session(database) as session:
        kept = list(session.exec(select(Review)))
        left = session.connection().execute(text("SELECT count(*) FROM review_queue")).scalar()
    assert left == 0
    assert Counter(one.sha256 for one in kept) == Counter({one.sha256: 1 for one in kept})
    assert len(kept) == ITEMS
    assert {(one.reviewer, one.sha256) for one in kept} == {(one.name, sha) for one in people for sha in one.decided}
