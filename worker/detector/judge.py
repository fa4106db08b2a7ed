"""judge(images): asks the engine and reads its answers."""

from collections.abc import Sequence

from PIL.Image import Image

from worker.detector.engine import Engine
from worker.detector.verdicts import Judgement, read
from worker.errors import EngineGenerateError
from worker.messages import Explain


def judge(
    engine: Engine, images: Sequence[Image], *, explain: Explain, live: bool
) -> list[Judgement | EngineGenerateError]:
    """A judgement for each image, in order, or the error of one that the engine refused twice.

    Raises EngineDeadError.
    """
    completions = engine.complete(images, explain=explain, live=live)
    judgements: list[Judgement | EngineGenerateError] = []
    for image, first in zip(images, completions, strict=True):
        refused = isinstance(first, EngineGenerateError)
        completion = engine.complete([image], explain=explain, live=live)[0] if refused else first
        if isinstance(completion, EngineGenerateError):
            judgements.append(completion)
        else:
            judgements.append(read(completion, engine.verdict_ids))
    return judgements
