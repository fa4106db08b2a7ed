"""The parts that the path of an image works with."""

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from worker.budget import Budget
from worker.case import Asked
from worker.database import Database
from worker.detector.description import DetectorDescription
from worker.detector.detector import Detector
from worker.images import DEFAULT_LIMITS, SizeLimits
from worker.in_hand import InHand
from worker.messages import SCAN_QUEUE, Explain, FilledPolicy
from worker.metrics import Metrics
from worker.provenance import ProvenanceReader
from worker.similarity import Hasher, find_hasher
from worker.storage import ImageStore


@dataclass(frozen=True)
class FurtherDetector:
    """A further detector, which gives second opinions to the scans that ask for it (docs/second-opinions.md).

    `detector_id` is its row of `detectors`, and `maker_id` its row of `makers`.
    """

    detector: Detector
    detector_id: int
    maker_id: int | None = None

    @property
    def name(self) -> str:
        """The name by which scans ask for it."""
        return self.detector.description.name

    def asked(self, policy: FilledPolicy, explain: Explain | None) -> Asked:
        """Returns what a scan with this policy asks of it."""
        description = self.detector.description
        own = policy.of_further(self.name, description.answer_limit, explain, **description.thresholds.model_dump())
        return Asked(self.detector_id, own, self.maker_id)


@dataclass(frozen=True)
class Parts:
    """The parts of the path. worker.__main__ puts them together, or a test does, from fakes."""

    store: ImageStore
    database: Database
    detector: Detector
    detector_id: int
    files: Budget = field(default_factory=lambda: Budget(2**30))
    """The budget for fetched files that are not decoded yet."""
    pixels: Budget = field(default_factory=lambda: Budget(3 * 2**30))
    """The budget for the memory of decoders. It is separate from `files`, so that a thread which holds a file can
    always continue.
    """
    decoders: AbstractContextManager[object] = field(default_factory=lambda: threading.BoundedSemaphore(2))
    """Limits the images in full size to as many as there are CPUs."""
    suspects: Budget = field(default_factory=lambda: Budget(1))
    """Room for one suspect image in the whole process, so that we know which image killed it."""
    in_hand: InHand = field(default_factory=InHand)
    max_bytes: int = 64 * 2**20
    limits: SizeLimits = DEFAULT_LIMITS
    retry_limit: int = 5
    live: bool = False
    """Whether these parts are for live images, which may also use the share of the budgets that scans leave free."""
    metrics: Metrics = field(default_factory=lambda: Metrics.declare().bound(queue=SCAN_QUEUE))
    """Counts and measures for the queue of these parts."""
    hasher: Hasher | None = field(default_factory=find_hasher)
    """Makes the hashes by which near duplicates are found. If it is None, no hash is stored."""

    maker_id: int | None = None
    """The row of `makers` that verdicts name: what judges here. None in tests that do not ask for it."""
    provenance: ProvenanceReader | None = None
    """Reads what files say about their origin. If it is None, nothing of it is stored."""
    also: tuple[FurtherDetector, ...] = ()
    """Further detectors. All have the same preprocessing as the main one, because one decode serves all."""

    @property
    def description(self) -> DetectorDescription:
        """What the detector is."""
        return self.detector.description
