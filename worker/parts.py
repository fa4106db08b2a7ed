"""What the path of an image works with."""

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property

from worker.budget import Budget
from worker.database import Database
from worker.detector.description import DetectorDescription
from worker.detector.engine import Engine
from worker.detector.verdicts import Reader
from worker.images import DEFAULT_LIMITS, SizeLimits
from worker.in_hand import InHand
from worker.messages import SCAN_QUEUE
from worker.metrics import Metrics
from worker.similarity import Hasher, find_hasher
from worker.storage import ImageStore


@dataclass(frozen=True)
class Parts:
    """What the path works with; put together in worker.__main__, or from fakes in a test."""

    store: ImageStore
    database: Database
    engine: Engine
    description: DetectorDescription
    detector_id: int
    files: Budget = field(default_factory=lambda: Budget(2**30))
    """Bytes of fetched files that are not decoded yet."""
    pixels: Budget = field(default_factory=lambda: Budget(3 * 2**30))
    """Bytes that decoders hold. Apart from `files`, so that whoever holds a file can always go on."""
    decoders: AbstractContextManager[object] = field(default_factory=lambda: threading.BoundedSemaphore(2))
    """As many images in full size at once as there are CPUs."""
    suspects: Budget = field(default_factory=lambda: Budget(1))
    """Room for one suspect image in the whole process, so that we know which one killed it."""
    in_hand: InHand = field(default_factory=InHand)
    max_bytes: int = 64 * 2**20
    limits: SizeLimits = DEFAULT_LIMITS
    retry_limit: int = 5
    live: bool = False
    """Whether these parts are for live images, which may use what scans leave free in the budgets."""
    metrics: Metrics = field(default_factory=lambda: Metrics.declare().bound(queue=SCAN_QUEUE))
    """What is counted and measured, for the queue of these parts."""
    hasher: Hasher | None = field(default_factory=find_hasher)
    """Makes the hashes by which near duplicates are found. None: no hash is stored."""

    @cached_property
    def reader(self) -> Reader:
        """Reads the engine's answers as the description says."""
        return Reader(self.description)
