"""vLLM and transformers agree on 200 held-out drawn images: the same verdict, scores within 0.02 in float32."""

from PIL import Image

from deploy.demo.answers import FAMILIES, REAL
from deploy.demo.draw import draw
from tests.contract.test_engines import completed
from worker.detector.description import DetectorDescription
from worker.detector.engine import Engine
from worker.detector.verdicts import Judgement, read
from worker.images import to_square
from worker.messages import Policy

IMAGES = 200
SEED = 77_000_000
"""Far from every seed that training draws with."""


def judged(engine: Engine, images: list[Image.Image]) -> list[Judgement]:
    return [read(answer, engine.verdict_ids) for answer in completed(engine, images)]


def test_parity(vllm: Engine, transformers: Engine, description: DetectorDescription) -> None:
    kinds = [REAL, *FAMILIES]
    images = [to_square(draw(SEED + n, kinds[n % len(kinds)]), edge=description.edge) for n in range(IMAGES)]
    served, reference = judged(vllm, images), judged(transformers, images)
    assert [one.verdict(Policy()) for one in served] == [one.verdict(Policy()) for one in reference]
    apart = [abs((one.score or 0) - (other.score or 0)) for one, other in zip(served, reference, strict=True)]
    assert max(apart) <= 0.02
    assert all(one.score is not None for one in served)
