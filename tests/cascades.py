"""Cascades of two scripted detectors, for tests."""

from collections.abc import Callable
from typing import Any

from PIL.Image import Image

from worker.detector.cascade import CascadeDetector
from worker.detector.description import CascadeDescription
from worker.detector.vlm import VlmDetector
from worker.testing import ScriptedEngine, brightness, scripted_description


def cascade_description(**changes: Any) -> CascadeDescription:
    """Two scripted detectors. The first clears images with a score up to 0.2; no cleared image is audited."""
    clear = {"up_to": 0.2, "audit_share": 0.0, "max_miss_rate": 0.005} | changes.pop("clear", {})
    stages = {"first": scripted_description(name="quick", revision="7"), "judge": scripted_description()}
    return CascadeDescription.model_validate({"name": "two", **stages, "clear": clear} | changes)


class Cascade:
    """A running cascade, and what its stages were asked. `first` scores by brightness unless it is told otherwise.

    `chance` decides which cleared images are audited.
    """

    def __init__(
        self, *, first: ScriptedEngine | None = None, judge: Callable[[Image], float] = brightness,
        judge_engine: ScriptedEngine | None = None, chance: Callable[[], float] = lambda: 0.5, **changes: Any,
    ) -> None:  # fmt: skip
        self.description = cascade_description(**changes)
        self.first, self.asked = first or ScriptedEngine(), judge_engine or ScriptedEngine(judge)
        self.detector = CascadeDetector(
            self.description,
            VlmDetector(self.first, scripted_description(name="quick", revision="7")),
            VlmDetector(self.asked, scripted_description()),
            chance=chance,
        )
