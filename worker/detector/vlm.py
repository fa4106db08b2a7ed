"""A vision-language model as a detector: asks the engine about images, and reads its answers."""

from collections.abc import Sequence

from PIL import Image

from worker.detector.description import VlmDescription
from worker.detector.engine import Engine
from worker.detector.verdicts import Judgement, Reader
from worker.errors import EngineGenerateError
from worker.messages import Explain, Policy


class VlmDetector:
    """See worker.detector.detector.Detector."""

    def __init__(self, engine: Engine, description: VlmDescription) -> None:
        self.description = description
        self._engine = engine
        self._reader = Reader(description)
        self.engine_name, self.on_gpu = engine.name, engine.on_gpu

    def judge(
        self, images: Sequence[Image.Image], policy: Policy, *, live: bool = False
    ) -> list[Judgement | EngineGenerateError]:
        """See Detector. An image that the engine refuses is asked about a second time, alone."""

        def ask(some: Sequence[Image.Image], explain: Explain) -> list[Judgement | EngineGenerateError]:
            answers = self._engine.complete(some, explain=explain, max_tokens=policy.max_tokens, live=live)
            return [one if isinstance(one, EngineGenerateError) else self._reader.read(one) for one in answers]

        judgements = ask(images, policy.explain)
        for number, (image, judgement) in enumerate(zip(images, judgements, strict=True)):
            if isinstance(judgement, EngineGenerateError):
                judgements[number] = ask([image], policy.explain)[0]
        # The detector said real and stopped, but the scan's threshold flags the image: now its reasons are wanted.
        silent = [number for number, judgement in enumerate(judgements) if _lacks_reasons(judgement, policy)]
        if silent:
            for number, judgement in zip(silent, ask([images[one] for one in silent], Explain.ALL), strict=True):
                if isinstance(judgement, Judgement):
                    judgements[number] = judgement
        return judgements

    def check(self) -> None:
        """See Detector."""
        self._engine.check()

    def close(self) -> None:
        """See Detector."""
        self._engine.close()


def _lacks_reasons(judgement: Judgement | EngineGenerateError, policy: Policy) -> bool:
    if isinstance(judgement, EngineGenerateError) or judgement.score is None or policy.fake_from is None:
        return False
    return policy.explain is Explain.FLAGGED and judgement.score >= policy.fake_from and judgement.explanation is None
