"""The web process in a test: its app on a database, a store in memory, and people who are logged in."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from celery import Celery
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw
from sqlalchemy import update
from sqlmodel import col

from producers import scans
from producers.reviews import add_reviewer
from producers.web.app import create_app
from producers.web.parts import Parts
from producers.web.settings import LoginKind, WebSettings
from tests.processes import ROOT, free_port, wait_for
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.detector.vlm import VlmDetector
from worker.messages import ImageRef, messages_of
from worker.moderate import moderate
from worker.path import Parts as PathParts
from worker.storage import ImageStore
from worker.tables import DeskRole, Reviewer, Scan, ScanStatus
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

ORIGIN = "http://127.0.0.1:8400"


def settings(**changes: Any) -> WebSettings:
    """Returns settings with the demo login, whatever the environment says."""
    return WebSettings.model_validate({"secret": "s" * 32, "login": LoginKind.DEMO, **changes})


def parts(database: Database, **changes: Any) -> Parts:
    """Returns parts with an empty store, and with a broker to which nothing is published."""
    return Parts(
        **{"settings": settings(), "database": database, "store": InMemoryImageStore({}), "broker": Celery()} | changes
    )


def person(database: Database, name: str, role: DeskRole = DeskRole.REVIEWER) -> None:
    """Makes a reviewer with this role."""
    add_reviewer(database, name)
    with transaction(database) as session:
        session.execute(update(Reviewer).where(col(Reviewer.name) == name).values(role=role))


def browser(app: FastAPI) -> TestClient:
    """A browser on this machine in which nobody is logged in."""
    return TestClient(app, base_url=ORIGIN, client=("127.0.0.1", 50000), follow_redirects=False)


def csrf_of(text: str) -> str:
    """Returns the token in the first form of a page."""
    found = re.search(r'name="csrf" value="([^"]+)"', text)
    assert found, text
    return found[1]


def logged_in(app: FastAPI, name: str) -> TestClient:
    """A browser in which this person is logged in."""
    client = browser(app)
    token = csrf_of(client.get("/login").text)
    answer = client.post("/login", data={"name": name, "csrf": token})
    assert answer.status_code == 303, answer.text
    return client


def desk_app(database: Database, **changes: Any) -> FastAPI:
    """The app. `changes` replaces some of its parts."""
    return create_app(parts(database, **changes))


def drawn(count: int, *, edge: int = 160, first: int = 0) -> dict[str, bytes]:
    """Bright pictures by name, each with another content. The scripted detector calls them fake."""
    pictures = {}
    for number in range(first, first + count):
        image = Image.new("RGB", (edge, edge * 3 // 4), "white")
        draw = ImageDraw.Draw(image)
        for bit in range(12):
            if number >> bit & 1:
                draw.rectangle((bit * edge // 12, 0, (bit + 1) * edge // 12 - 1, 9), fill="#99ccff")
        pictures[f"{number:04}.png"] = png(image)
    return pictures


def png(image: Image.Image) -> bytes:
    """The image as a PNG."""
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def swept(
    database: Database, store: ImageStore, refs: Sequence[ImageRef], *, name: str = "archive", **changes: Any
) -> UUID:
    """Judges these images with the scripted detector, in one scan. Returns its id. `changes` are parts of the path."""
    scan = scans.start_scan(database, scans.Listing(sources=("s3://archive/",)), name=name)
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        row.listed, row.status = len(refs), ScanStatus.RUNNING
    description = changes.pop("description", scripted_description())
    detector_id = register_detector(database, description.row())
    engine = changes.pop("engine", ScriptedEngine())
    path = PathParts(store, database, VlmDetector(engine, description), detector_id, **changes)
    for job in messages_of(refs, scan_id=scan.id):
        assert moderate(job, uuid4(), path) is None
    return scan.id


def in_folder(folder: Path, pictures: Mapping[str, bytes]) -> list[ImageRef]:
    """Writes the pictures as files."""
    folder.mkdir(parents=True, exist_ok=True)
    refs = []
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
        refs.append(ImageRef(uri=(folder / name).resolve().as_uri()))
    return refs


class Desk:
    """A `fakesweep web` process on a database and a folder of images. It can be killed and started again."""

    def __init__(self, database: Database, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._log = folder / "web.log"
        self._environment = {
            **os.environ,
            "DATABASE_URL": database.url.render_as_string(hide_password=False),
            "BROKER_URL": "redis://127.0.0.1:1/0",  # reviews need no broker
            "FAKESWEEP_ALLOWED_FOLDERS": str(folder),
            "FAKESWEEP_WEB_PORT": str(self.port),
            "FAKESWEEP_WEB_SECRET": "s" * 32,
            "FAKESWEEP_WEB_LOGIN": "demo",
            "FAKESWEEP_WEB_SECOND_SHARE": "0",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process, and waits until it answers."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "producers", "web"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        wait_for(self._answers, 60, self.process, self._log)

    def kill(self) -> None:
        """Ends the process at once, whatever it is doing."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def policy_broken(self) -> bool:
        """Whether a browser has reported that a page violated our content policy."""
        return "csp_violation" in self._log.read_text(errors="replace")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/login", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def serving(database: Database, folder: Path, **settings: str) -> Iterator[Desk]:
    """Runs a desk until the body ends."""
    desk = Desk(database, folder, **settings)
    try:
        desk.start()
        yield desk
    finally:
        desk.kill()
