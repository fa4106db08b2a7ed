"""Measures the time to the first picture at the review desk: from the request to the last byte of our own JPEG.

    make bench ARGS="--only desk_pictures"

`desk_pictures.12.first` is in milliseconds, for photo-like JPEGs of 12 megapixels that were not shown yet. The
reference is 300 ms, the longest acceptable wait. The storage is this machine's disk. `desk_pictures.12.again` is for
the other form of the same picture, which exists already; its reference is 20 ms.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from celery import Celery
from fastapi.testclient import TestClient

from benchmarks.comparison import Comparison, Wanted
from benchmarks.large_jpeg import SIZES, photo
from benchmarks.scratch import scratch_database
from producers.reviews import add_reviewer
from producers.web.access.people import Person
from producers.web.app import create_app
from producers.web.parts import Parts
from producers.web.pictures import Kind, address
from producers.web.settings import LoginKind, WebSettings
from worker.database import Database
from worker.settings import Settings
from worker.storage import open_stores
from worker.tables import DeskRole

PHOTOS = 9
FIRST_MS, AGAIN_MS = 300.0, 20.0


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares the first and the second form of each picture with the limits."""
    with scratch_database() as (_, database), TemporaryDirectory() as folder:
        first, again = measure(database, Path(folder))
    for name, figures, limit in (("first", first, FIRST_MS), ("again", again, AGAIN_MS)):
        if wanted(f"desk_pictures.12.{name}"):
            limits = (limit,) * len(figures)
            yield Comparison(f"desk_pictures.12.{name}", "ms", figures, limits, 1.0, higher_is_better=False)


def measure(database: Database, folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the milliseconds for the blurred form of each picture, and then for its clear form."""
    own = WebSettings.model_validate({"secret": "s" * 32, "login": LoginKind.DEMO})
    parts = Parts(settings=own, database=database, store=open_stores(Settings()), broker=Celery())
    add_reviewer(database, "heron")
    with TestClient(create_app(parts), base_url="http://127.0.0.1:8400", client=("127.0.0.1", 1)) as client:
        token = client.get("/login").text.partition('name="csrf" value="')[2].partition('"')[0]
        client.post("/login", data={"name": "heron", "csrf": token}, follow_redirects=False)
        first: list[float] = []
        again: list[float] = []
        for number in range(PHOTOS):
            path = folder / f"{number}.jpg"
            data = photo(number, SIZES["12"])
            path.write_bytes(data)
            for kind, figures in ((Kind.BLURRED, first), (Kind.CLEAR, again)):
                asked = address(parts, Person("heron", DeskRole.REVIEWER), _sha256(data), path.as_uri(), kind)
                began = time.perf_counter()
                answer = client.get(asked)
                figures.append((time.perf_counter() - began) * 1000)
                answer.raise_for_status()
    return tuple(first), tuple(again)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
