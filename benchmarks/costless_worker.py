"""The worker with an engine that costs nothing and calls every image real.

Run it with `python -m benchmarks.costless_worker`.
"""

import sys
from collections.abc import Sequence

from PIL.Image import Image

from worker.__main__ import main
from worker.detector.engine import Completion
from worker.detector.vlm import VlmDetector
from worker.errors import EngineGenerateError
from worker.messages import Explain
from worker.testing import answering, scripted_description

_ANSWER = answering("This is a real image.", fake=0.05)


class CostlessEngine:
    """An Engine that does not look at its images."""

    name, on_gpu = "costless", False

    def complete(
        self,
        images: Sequence[Image],
        *,
        explain: Explain = Explain.FLAGGED,
        max_tokens: int | None = None,
        live: bool = False,
    ) -> list[Completion | EngineGenerateError]:
        """See worker.detector.engine.Engine."""
        del explain, max_tokens, live
        return [_ANSWER] * len(images)

    def check(self) -> None:
        """See Engine."""

    def close(self) -> None:
        """See Engine."""


if __name__ == "__main__":
    detector = VlmDetector(CostlessEngine(), scripted_description())
    sys.exit(main(describe=lambda _: detector.description, start=lambda _description, _settings: detector))
