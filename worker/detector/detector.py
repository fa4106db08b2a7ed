"""The seam between the path of an image and what judges it: a vision-language model, a classifier, or a cascade."""

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from worker.detector.description import DetectorDescription
from worker.detector.verdicts import Judgement
from worker.errors import ConfigurationError, EngineGenerateError
from worker.messages import Explain, Policy


class Detector(Protocol):
    """Judges images. Thread-safe: many threads call judge() at the same time."""

    @property
    def description(self) -> DetectorDescription:
        """What it is, with the true revision of its model."""

    @property
    def engine_name(self) -> str:
        """What runs it, as the table `makers` calls it, such as `vllm`."""

    @property
    def on_gpu(self) -> bool:
        """Whether it judges on a GPU."""

    def judge(
        self, images: Sequence[Image.Image], policy: Policy, *, live: bool = False
    ) -> list[Judgement | EngineGenerateError]:
        """Returns a judgement for each `edge` x `edge` RGB image, in order, or the error of an image that was refused.

        `live` images go before those of scans. Raises EngineDeadError when the detector is dead or stalled: it has
        images, but has finished none for too long.
        """

    def check(self) -> None:
        """Raises EngineDeadError when the detector is dead or stalled, also when nobody waits for an answer."""

    def close(self) -> None:
        """Ends the detector and every process it started. Calling it twice is fine."""


def warm_up(detector: Detector) -> None:
    """Sends one grey image through the detector, so that all code is compiled before the first message.

    Raises ConfigurationError if the detector refuses it: the prompt, the model and the limits do not fit together.
    """
    edge = detector.description.preprocessing.edge
    grey = Image.new("RGB", (edge, edge), "grey")
    answer = detector.judge([grey], Policy(explain=Explain.ALL, max_tokens=8, judge=True))[0]
    if isinstance(answer, EngineGenerateError):
        raise ConfigurationError(f"FAKESWEEP_DETECTOR: the detector cannot judge a plain grey image: {answer}")
