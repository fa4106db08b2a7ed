"""What the web process works with; put together in producers.web.serve, or from fakes in a test."""

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
    """Where pictures are fetched from."""
    broker: "Celery"
    """What submissions are published with."""
    reasons: Reasons = field(default_factory=read_reasons)
    """Why people can say that they decide. Read once, so that a file that is wrong is told at start."""
    scans: ScanProcesses = field(default_factory=ScanProcesses)
    """Publishes the scans that are started here. Whoever makes the parts closes it."""
    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000
    max_queue_depth: int = 2000
    """Messages that a retry lets wait in the queue."""


def parts_of(connection: HTTPConnection) -> Parts:
    """The parts of the app that answers: for FastAPI's Depends."""
    parts: Any = connection.app.state.parts
    assert isinstance(parts, Parts)  # noqa: S101 - for the type checker
    return parts


AParts = Annotated[Parts, Depends(parts_of)]
"""The parts, for what answers a request."""
