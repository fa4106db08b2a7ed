"""A cascade as a detector: the first stage clears what is surely real, and the judge decides about the rest."""

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import structlog
from PIL import Image

from worker.detector.description import CascadeDescription
from worker.detector.detector import Detector
from worker.detector.verdicts import Answer, Judgement
from worker.errors import EngineGenerateError, FakesweepError
from worker.messages import Explain, Policy
from worker.tables import Stage

log = structlog.get_logger(__name__)

# The system's randomness: nobody can predict it, and an engine that seeds Python's generator does not repeat it.
_CHANCE = random.SystemRandom().random


class CascadeDetector:
    """See worker.detector.detector.Detector. Both stages see the same squares.

    `chance` returns a number in 0..1 for each cleared image. The image is audited if it is below the share of audits.

    Raises ConfigurationError if the description has no clear threshold.
    """

    def __init__(
        self,
        description: CascadeDescription,
        first: Detector,
        judge: Detector,
        *,
        chance: Callable[[], float] = _CHANCE,
    ) -> None:
        self.description = description.with_stages(first.description, judge.description)
        self._first, self._judge = first, judge
        self.engine_name = " + ".join(dict.fromkeys((first.engine_name, judge.engine_name)))
        self.on_gpu = first.on_gpu or judge.on_gpu
        self._up_to = description.calibrated_up_to()
        self._audit_share, self._chance = description.clear.audit_share, chance
        if description.clear.max_miss_rate is None:
            log.warning("cascade_without_promise", detector=description.name, up_to=self._up_to)

    def judge(
        self, images: Sequence[Image.Image], policy: Policy, *, live: bool = False
    ) -> list[Judgement | EngineGenerateError]:
        """See Detector. With `policy.judge`, the judge sees every image. It also sees those that the first refused, and
        all if the first fails unexpectedly.

        The first stage is never asked for its reasons. An audited image that the judge refuses stays cleared.
        """
        said = self._first_said(images, policy, live=live)
        ends: dict[int, Judgement | EngineGenerateError] = {}
        stages: dict[int, Stage] = {}
        for number, one in enumerate(said):
            if policy.judge or not self._clears(one, policy):
                stages[number] = Stage.JUDGE
                continue
            ends[number] = _cleared(one)
            if self._chance() < self._audit_share:
                stages[number] = Stage.AUDIT
        if stages:
            asked = self._judge.judge([images[number] for number in stages], policy, live=live)
            for (number, stage), answer in zip(stages.items(), asked, strict=True):
                if stage is Stage.AUDIT and isinstance(answer, EngineGenerateError):
                    log.warning("audit_refused", reason=str(answer))
                else:
                    ends[number] = _staged(answer, stage, said[number])
        return [ends[number] for number in range(len(images))]

    def _first_said(
        self, images: Sequence[Image.Image], policy: Policy, *, live: bool
    ) -> Sequence[Judgement | EngineGenerateError]:
        try:
            return self._first.judge(images, policy.model_copy(update={"explain": Explain.NONE}), live=live)
        except FakesweepError:  # such as EngineDeadError: the worker knows what to do
            raise
        except Exception as error:  # a fault in the first stage's own code, and the judge can still answer
            log.exception("first_stage_failed", detector=self.description.name, images=len(images))
            return [EngineGenerateError(f"the first stage failed: {type(error).__name__}")] * len(images)

    def _clears(self, said: Judgement | EngineGenerateError, policy: Policy) -> bool:
        """Whether an image is real at once. A cleared image must be real by the scan's own thresholds, too."""
        if isinstance(said, EngineGenerateError) or said.score is None:
            return False
        filled = policy.filled(**self.description.thresholds.model_dump())
        return said.score <= min(self._up_to, filled.real_to) and said.score < filled.fake_from

    def check(self) -> None:
        """See Detector."""
        self._first.check()
        self._judge.check()

    def close(self) -> None:
        """See Detector. The judge is closed even if the first stage cannot be."""
        with ExitStack() as both:
            both.callback(self._judge.close)
            both.callback(self._first.close)


def _cleared(first: Judgement | EngineGenerateError) -> Judgement | EngineGenerateError:
    """A cleared image is real, also where the first stage's calibration turns an answer of fake into a low score."""
    real = replace(first, answer=Answer.REAL) if isinstance(first, Judgement) else first
    return _staged(real, Stage.FIRST, first)


def _staged(
    answer: Judgement | EngineGenerateError, stage: Stage, first: Judgement | EngineGenerateError
) -> Judgement | EngineGenerateError:
    if isinstance(answer, EngineGenerateError):
        return answer
    score = first.score if isinstance(first, Judgement) else None
    return replace(answer, stage=stage, first_score=score)
