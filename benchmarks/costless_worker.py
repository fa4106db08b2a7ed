"""The worker with an engine that costs nothing and calls every image real.

Run it with `python -m benchmarks.costless_worker [NAME...]`. The names are of further detectors, for second opinions.
"""

import sys
from collections.abc import Sequence

from PIL.Image import Image

from worker.__main__ import main
from worker.detector.description import vlm_only
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
    sys.exit(
        main(
            describe=lambda _: scripted_description(),
            describe_further=lambda _: [scripted_description(name=name) for name in sys.argv[1:]],
            check_fit=lambda *_: None,
            start=lambda description, _: VlmDetector(CostlessEngine(), vlm_only(description, "this benchmark")),
        )
    )
