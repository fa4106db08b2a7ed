"""One suite for every engine: the scripted fake, transformers, and vLLM, the last two with the demo detector."""

import math
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.demo.draw import draw
from worker.detector.description import DetectorDescription
from worker.detector.engine import Completion, Engine
from worker.detector.judge import judge
from worker.detector.verdicts import Answer, read
from worker.errors import ConfigurationError, EngineDeadError, EngineGenerateError
from worker.images import to_square
from worker.messages import Explain
from worker.testing import ScriptedEngine

FAMILY_SEEDS = range(900_000, 900_012)


@pytest.fixture(params=["scripted", "transformers", "vllm"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def images(description: DetectorDescription) -> list[Image.Image]:
    from deploy.demo.answers import FAMILIES, REAL

    kinds = [REAL, *FAMILIES]
    return [to_square(draw(seed, kinds[seed % len(kinds)]), edge=description.edge) for seed in FAMILY_SEEDS]


def completed(engine: Engine, images: list[Image.Image], explain: Explain = Explain.FLAGGED) -> list[Completion]:
    answers = engine.complete(images, explain=explain)
    assert not any(isinstance(answer, EngineGenerateError) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Completion)]


def test_an_answer_for_every_image_in_order(engine: Engine, images: list[Image.Image]) -> None:
    together = completed(engine, images)
    alone = [completed(engine, [image])[0] for image in images[:4]]
    assert len(together) == len(images)
    for one, other in zip(alone, together, strict=False):
        assert one.text == other.text
        first, second = (read(answer, engine.verdict_ids) for answer in (one, other))
        assert first.score == pytest.approx(second.score, abs=0.02)


def test_no_images_no_answers(engine: Engine) -> None:
    assert engine.complete([]) == []


def test_the_log_probabilities_are_those_of_the_verdict_words(engine: Engine, images: list[Image.Image]) -> None:
    for answer in completed(engine, images):
        assert len(answer.token_ids) == len(answer.verdict_logprobs)
        assert all(fake <= 0 and real <= 0 for fake, real in answer.verdict_logprobs)
        step = next(index for index, token in enumerate(answer.token_ids) if token in engine.verdict_ids)
        fake, real = answer.verdict_logprobs[step]
        assert (fake > real) == (answer.token_ids[step] == engine.verdict_ids[0])
        assert math.exp(fake) + math.exp(real) <= 1.001


def test_a_judgement_can_be_read_from_every_answer(engine: Engine, images: list[Image.Image]) -> None:
    answers = {read(answer, engine.verdict_ids).answer for answer in completed(engine, images)}
    assert Answer.UNDECIDED not in answers


def test_flagged_explains_what_is_fake_and_stops_after_real(engine: Engine, images: list[Image.Image]) -> None:
    dark, bright = (Image.new("RGB", images[0].size, colour) for colour in ("black", "white"))
    judged = [read(answer, engine.verdict_ids) for answer in completed(engine, [*images, dark, bright])]
    assert {judgement.answer for judgement in judged} == {Answer.FAKE, Answer.REAL}
    for judgement in judged:
        assert bool(judgement.explanation) == (judgement.answer == Answer.FAKE)
        if judgement.answer == Answer.REAL:
            assert judgement.completion_tokens <= 10


def test_all_explains_everything_and_none_nothing(engine: Engine, images: list[Image.Image]) -> None:
    everything = [read(answer, engine.verdict_ids) for answer in completed(engine, images, Explain.ALL)]
    nothing = [read(answer, engine.verdict_ids) for answer in completed(engine, images, Explain.NONE)]
    assert all(judgement.explanation for judgement in everything)
    assert not any(judgement.explanation for judgement in nothing)
    assert [one.answer for one in everything] == [one.answer for one in nothing]


def test_many_threads_at_once(engine: Engine, images: list[Image.Image]) -> None:
    expected = [answer.text for answer in completed(engine, images)]
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        found[number] = [answer.text for answer in completed(engine, images[number : number + 3])]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {number: expected[number : number + 3] for number in range(6)}


def test_a_model_that_cannot_be_loaded(tmp_path: Path, description: DetectorDescription) -> None:
    from worker.detector.transformers_engine import TransformersEngine

    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigurationError, match="FAKESWEEP_MODEL"):
        TransformersEngine(description, tmp_path)


def test_one_refused_image_is_tried_again_and_concerns_no_other() -> None:
    grey = Image.fromarray(np.full((10, 10, 3), 128, dtype=np.uint8))
    refusals = iter([True, False])

    def refuse_grey_once(image: Image.Image) -> None:
        if image.getpixel((0, 0)) == (128, 128, 128) and next(refusals):
            raise EngineGenerateError("refused")

    engine = ScriptedEngine(fail=refuse_grey_once)
    judged = judge(engine, [Image.new("RGB", (10, 10)), grey], explain=Explain.FLAGGED, live=False)
    assert not any(isinstance(judgement, EngineGenerateError) for judgement in judged)
    assert engine.calls == [2, 1]


def test_a_dead_engine_stays_dead() -> None:
    def die(_image: Image.Image) -> None:
        raise EngineDeadError("gone")

    engine = ScriptedEngine(fail=die)
    for _ in range(2):
        with pytest.raises(EngineDeadError):
            engine.complete([Image.new("RGB", (10, 10))])
