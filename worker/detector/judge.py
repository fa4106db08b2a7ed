"""Asks the engine about images and reads its answers."""

from collections.abc import Sequence

from PIL import Image

from worker.detector.engine import Engine
from worker.detector.verdicts import Judgement, Reader
from worker.errors import ConfigurationError, EngineGenerateError
from worker.messages import Explain, Policy


def judge(
    engine: Engine,
    reader: Reader,
    images: Sequence[Image.Image],
    policy: Policy,
    *,
    live: bool = False,
) -> list[Judgement | EngineGenerateError]:
    """Returns a judgement for each image, in order, or the error of an image that the engine refused twice.

    Raises EngineDeadError.
    """

    def ask(some: Sequence[Image.Image], explain: Explain) -> list[Judgement | EngineGenerateError]:
        answers = engine.complete(some, explain=explain, max_tokens=policy.max_tokens, live=live)
        return [answer if isinstance(answer, EngineGenerateError) else reader.read(answer) for answer in answers]

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


def _lacks_reasons(judgement: Judgement | EngineGenerateError, policy: Policy) -> bool:
    if isinstance(judgement, EngineGenerateError) or judgement.score is None or policy.fake_from is None:
        return False
    return policy.explain is Explain.FLAGGED and judgement.score >= policy.fake_from and judgement.explanation is None


def warm_up(engine: Engine, edge: int) -> None:
    """Sends one grey image through the engine, so that all code is compiled before the first message.

    Raises ConfigurationError if the engine refuses it: the prompt, the model and the limits do not fit together.
    """
    answer = engine.complete([Image.new("RGB", (edge, edge), "grey")], explain=Explain.ALL, max_tokens=8)[0]
    if isinstance(answer, EngineGenerateError):
        raise ConfigurationError(f"FAKESWEEP_DETECTOR: the detector cannot judge a plain grey image: {answer}")
