"""Parts with a further detector: two scripted detectors with different score functions."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from worker.database import Database
from worker.database.detectors import register_detector
from worker.detector.detector import Detector
from worker.detector.vlm import VlmDetector
from worker.parts import FurtherDetector, Parts
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

FURTHER = "redness"


def png(colour: str, size: tuple[int, int] = (400, 300)) -> bytes:
    """An image of one colour."""
    target = io.BytesIO()
    Image.new("RGB", size, colour).save(target, "PNG")
    return target.getvalue()


def redness(image: Image.Image) -> float:
    """The further detector's P(fake): how red the upper left corner is. Red images are real to the main detector."""
    pixel: Any = image.getpixel((0, 0))
    return float(pixel[0]) / 255


IMAGES = {
    "s3://b/white": png("white"),  # both say fake
    "s3://b/black": png("black"),  # both say real
    "s3://b/red": png("#ff0000"),  # brightness 0.3: real; redness 1: fake
    "s3://b/cyan": png("#00ffff"),  # brightness 0.7: fake; redness 0: real
    "s3://b/grey": png("#808080"),  # both are uncertain
    "s3://b/rose": png("#ff5050"),  # brightness 0.5: uncertain; redness 1: fake
}
DIFFER = {"s3://b/red", "s3://b/cyan"}


@dataclass
class Two:
    """Makes parts with a main detector and a further one, and remembers what was asked of them."""

    database: Database
    main: ScriptedEngine = field(default_factory=ScriptedEngine)
    further: ScriptedEngine = field(default_factory=lambda: ScriptedEngine(redness))
    store: InMemoryImageStore = field(default_factory=lambda: InMemoryImageStore(dict(IMAGES)))

    def main_alone(self) -> int:
        """Registers the main detector, as a worker that starts without the further one. Returns its id."""
        return register_detector(self.database, scripted_description().row())

    def parts(self, *, holds_it: bool = True, wrapped: Callable[[Detector], Detector] = lambda one: one) -> Parts:
        """Returns the parts. `wrapped` may change the further detector."""
        first, second = scripted_description(), scripted_description(name=FURTHER)
        further = FurtherDetector(
            wrapped(VlmDetector(self.further, second)), register_detector(self.database, second.row(), further=True)
        )
        main_id = self.main_alone()
        also = (further,) if holds_it else ()
        return Parts(self.store, self.database, VlmDetector(self.main, first), main_id, also=also)
