"""The parts that the web process works with. producers.web.serve puts them together, or a test does, from fakes."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from producers.web.reasons import Reasons, read_reasons
from producers.web.scans import ScanProcesses
from producers.web.settings import WebSettings
from worker.database import Database
from worker.storage import ImageStore

if TYPE_CHECKING:
    from celery import Celery


@dataclass(frozen=True)
class Parts:
    """The parts of the web process."""

    settings: WebSettings
    database: Database
    store: ImageStore
    """Pictures are fetched from here."""
    broker: "Celery"
    """Submissions are published with this."""
    reasons: Reasons = field(default_factory=read_reasons)
    """The reasons that people can give for a decision. Read once, so that a mistake in the file is reported at
    start.
    """
    scans: ScanProcesses = field(default_factory=ScanProcesses)
    """Publishes the scans that are started here. Whoever makes the parts must close it."""
    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000
    max_queue_depth: int = 2000
    """How many messages a retry may leave waiting in the queue."""


def parts_of(connection: HTTPConnection) -> Parts:
    """The parts of the app that answers: for FastAPI's Depends."""
    parts: Any = connection.app.state.parts
    assert isinstance(parts, Parts)  # noqa: S101 - for the type checker
    return parts


AParts = Annotated[Parts, Depends(parts_of)]
"""The parts, for what answers a request."""
