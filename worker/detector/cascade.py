"""A cascade as a detector: the first stage clears what is surely real, and the judge decides about the rest."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from worker.detector.description import CascadeDescription
from worker.detector.detector import Detector
from worker.detector.verdicts import Judgement
from worker.errors import EngineGenerateError
from worker.messages import Policy
from worker.tables import Stage


class CascadeDetector:
    """See worker.detector.detector.Detector. Both stages see the same squares."""

    def __init__(self, description: CascadeDescription, first: Detector, judge: Detector) -> None:
        self.description = description.with_stages(first.description, judge.description)
        self._first, self._judge = first, judge
        self.engine_name, self.on_gpu = judge.engine_name, first.on_gpu or judge.on_gpu
        self._sample = Sample(self.description.fingerprint, description.clear.audit_share)

    def judge(
        self, images: Sequence[Image.Image], policy: Policy, *, live: bool = False
    ) -> list[Judgement | EngineGenerateError]:
        """See Detector. With `policy.judge`, the judge sees every image. It also sees those that the first refused."""
        said = self._first.judge(images, policy, live=live)
        ends: dict[int, Judgement | EngineGenerateError] = {}
        stages: dict[int, Stage] = {}
        for number, (image, one) in enumerate(zip(images, said, strict=True)):
            stage = Stage.JUDGE if policy.judge or not self._clears(one, policy) else self._stage_of_cleared(image)
            if stage is Stage.FIRST and isinstance(one, Judgement):
                ends[number] = replace(one, stage=stage, first_score=one.score)
            else:
                stages[number] = stage
        if stages:
            asked = self._judge.judge([images[number] for number in stages], policy, live=live)
            ends |= {
                number: _staged(answer, stages[number], said[number])
                for number, answer in zip(stages, asked, strict=True)
            }
        return [ends[number] for number in range(len(images))]

    def _clears(self, said: Judgement | EngineGenerateError, policy: Policy) -> bool:
        """Whether an image is real at once. A cleared image must be real by the scan's own threshold, too."""
        if isinstance(said, EngineGenerateError) or said.score is None:
            return False
        real_to = self.description.thresholds.real_to if policy.real_to is None else policy.real_to
        return said.score <= min(self.description.clear.up_to, real_to)

    def _stage_of_cleared(self, image: Image.Image) -> Stage:
        return Stage.AUDIT if self._sample.holds(image) else Stage.FIRST

    def check(self) -> None:
        """See Detector."""
        self._first.check()
        self._judge.check()

    def close(self) -> None:
        """See Detector."""
        self._first.close()
        self._judge.close()


class Sample:
    """A random sample of images. The pixels decide: the same image is always in it or never, wherever it is judged.

    So a second delivery of a message changes nothing, and an auditor can repeat the choice. `seed` makes the sample of
    one cascade independent of another's. `share` is in 0..1.
    """

    def __init__(self, seed: str, share: float) -> None:
        self._seed = seed.encode()[:64]
        self._below = round(share * 2**64)

    def holds(self, image: Image.Image) -> bool:
        """Whether the image is in the sample."""
        digest = hashlib.blake2b(image.tobytes(), digest_size=8, key=self._seed).digest()
        return int.from_bytes(digest) < self._below


def _staged(
    answer: Judgement | EngineGenerateError, stage: Stage, first: Judgement | EngineGenerateError
) -> Judgement | EngineGenerateError:
    if isinstance(answer, EngineGenerateError):
        return answer
    score = first.score if isinstance(first, Judgement) else None
    return replace(answer, stage=stage, first_score=score)
