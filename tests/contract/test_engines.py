"""One suite for every engine: the scripted fake, transformers and vLLM. The last two run the demo detector."""

import math
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from deploy.demo.draw import draw
from worker.detector.description import VlmDescription
from worker.detector.engine import Completion, Engine
from worker.detector.verdicts import Answer, Reader
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
def images(description: VlmDescription) -> list[Image.Image]:
    from deploy.demo.answers import FAMILIES, REAL

    kinds = [REAL, *FAMILIES]
    return [
        to_square(draw(seed, kinds[seed % len(kinds)]), edge=description.preprocessing.edge) for seed in FAMILY_SEEDS
    ]


@pytest.fixture(scope="session")
def reader(description: VlmDescription) -> Reader:
    return Reader(description)


def completed(engine: Engine, images: list[Image.Image], explain: Explain = Explain.FLAGGED) -> list[Completion]:
    answers = engine.complete(images, explain=explain)
    assert not any(isinstance(answer, EngineGenerateError) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Completion)]


def test_an_answer_for_every_image_in_order(engine: Engine, reader: Reader, images: list[Image.Image]) -> None:
    together = completed(engine, images)
    alone = [completed(engine, [image])[0] for image in images[:4]]
    assert len(together) == len(images)
    for one, other in zip(alone, together, strict=False):
        assert one.text == other.text
        first, second = (reader.read(answer) for answer in (one, other))
        assert first.score == pytest.approx(second.score, abs=0.02)


def test_no_images_no_answers(engine: Engine) -> None:
    assert engine.complete([]) == []


def test_the_log_probabilities_are_those_of_the_verdict_words(engine: Engine, images: list[Image.Image]) -> None:
    for answer in completed(engine, images):
        assert all(step.fake <= 0 and step.real <= 0 for step in answer.steps)
        step = next(step for step in answer.steps if step.is_verdict)
        assert step.text.strip() in {"fake", "real"}
        assert (step.fake > step.real) == (step.text.strip() == "fake")
        assert 0.5 < math.exp(step.fake) + math.exp(step.real) <= 1.001


def test_a_judgement_can_be_read_from_every_answer(engine: Engine, reader: Reader, images: list[Image.Image]) -> None:
    answers = {reader.read(answer).answer for answer in completed(engine, images)}
    assert Answer.UNDECIDED not in answers


def test_flagged_explains_fake_images_and_stops_after_real(
    engine: Engine, reader: Reader, images: list[Image.Image]
) -> None:
    dark, bright = (Image.new("RGB", images[0].size, colour) for colour in ("black", "white"))
    judged = [reader.read(answer) for answer in completed(engine, [*images, dark, bright])]
    assert {judgement.answer for judgement in judged} == {Answer.FAKE, Answer.REAL}
    for judgement in judged:
        assert bool(judgement.explanation) == (judgement.answer == Answer.FAKE)
        if judgement.answer == Answer.REAL:
            assert judgement.completion_tokens <= 10


def test_all_explains_everything_and_none_nothing(engine: Engine, reader: Reader, images: list[Image.Image]) -> None:
    everything = [reader.read(answer) for answer in completed(engine, images, Explain.ALL)]
    nothing = [reader.read(answer) for answer in completed(engine, images, Explain.NONE)]
    assert all(judgement.explanation for judgement in everything)
    assert not any(judgement.explanation for judgement in nothing)
    assert [one.answer for one in everything] == [one.answer for one in nothing]
    assert not any(judgement.cut_off for judgement in [*everything, *nothing])


def test_an_answer_that_was_limited_says_so(engine: Engine, reader: Reader, images: list[Image.Image]) -> None:
    answers = engine.complete(images, explain=Explain.ALL, max_tokens=9)
    for answer in answers:
        assert isinstance(answer, Completion)
        assert (len(answer.steps), answer.cut_off) == (9, True)
        assert reader.read(answer).answer != Answer.UNDECIDED
    stopped = engine.complete(images, explain=Explain.NONE, max_tokens=9)
    assert not any(isinstance(answer, Completion) and answer.cut_off for answer in stopped)


def test_a_limit_above_that_of_the_description_has_no_effect(engine: Engine, images: list[Image.Image]) -> None:
    assert [one.text for one in completed(engine, images, Explain.ALL)] == [
        one.text
        for one in engine.complete(images, explain=Explain.ALL, max_tokens=10_000)
        if isinstance(one, Completion)
    ]


def test_a_healthy_engine_passes_its_check(engine: Engine) -> None:
    engine.check()


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


def test_a_live_image_overtakes_a_scan(vllm: Engine, images: list[Image.Image]) -> None:
    done: list[str] = []

    def work(name: str, own: list[Image.Image], live: bool) -> None:
        vllm.complete(own, explain=Explain.ALL, live=live)
        done.append(name)

    scans = [threading.Thread(target=work, args=("scan", images, False)) for _ in range(16)]
    for thread in scans:
        thread.start()
    while vllm.in_flight < 16 * len(images):  # type: ignore[attr-defined]
        time.sleep(0.01)
    work("live", images[:1], live=True)
    for thread in scans:
        thread.join(240)
    assert len(done) == 17
    assert done.index("live") < 9  # if they ran in the order in which they came, it would be the last one, or nearly


def test_a_model_that_cannot_be_loaded(tmp_path: Path, description: VlmDescription) -> None:
    from worker.detector.transformers_engine import TransformersEngine

    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigurationError, match="FAKESWEEP_MODEL"):
        TransformersEngine(description, tmp_path)


def test_the_reference_refuses_quantised_weights(tmp_path: Path, description: VlmDescription) -> None:
    from worker.detector.transformers_engine import TransformersEngine

    limits = description.engine.model_copy(update={"quantization": "fp8_per_tensor"})
    with pytest.raises(ConfigurationError, match="FAKESWEEP_ENGINE"):
        TransformersEngine(description.model_copy(update={"engine": limits}), tmp_path)


def test_a_dead_engine_stays_dead() -> None:
    def die(_image: Image.Image) -> None:
        raise EngineDeadError("gone")

    engine = ScriptedEngine(fail=die)
    for _ in range(2):
        with pytest.raises(EngineDeadError):
            engine.complete([Image.new("RGB", (10, 10))])
    with pytest.raises(EngineDeadError):
        engine.check()
