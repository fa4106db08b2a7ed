"""200 drawings that training did not see, judged by the worker's vLLM engine and by transformers' generate, and 100 of
them by a plain script that works like the authors' evaluation. Prompts and answers are the same, token by token.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from transformers import AutoProcessor

from deploy.demo.draw import draw_record
from tests.conftest import DEMO_DETECTOR
from tests.contract.test_engines import completed
from worker.detector.description import VlmDescription
from worker.detector.engine import Engine
from worker.detector.verdicts import Answer, Judgement, Reader, verdict_of
from worker.images import decode
from worker.messages import Explain

IMAGES = 200
AUTHORS = 100
"""How many of them the script judges: it takes a second for each."""
SEED = 77
"""Training drew its images with seed 1, the other measurements with seeds 2 to 5."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parity")
    (folder / "images").mkdir()
    return [folder / draw_record(index, seed=SEED, folder=folder)["image"] for index in range(IMAGES)]


@pytest.fixture(scope="module")
def served(vllm: Engine, description: VlmDescription, paths: list[Path]) -> list[Judgement]:
    return judged(vllm, description, paths)


def judged(engine: Engine, description: VlmDescription, paths: list[Path]) -> list[Judgement]:
    reader = Reader(description)
    images = [decode(path.read_bytes()) for path in paths]
    return [reader.read(answer) for answer in completed(engine, images)]


@pytest.mark.timeout(600)
def test_vllm_and_transformers_give_the_same_answers(
    served: list[Judgement], transformers: Engine, description: VlmDescription, paths: list[Path]
) -> None:
    reference = judged(transformers, description, paths)
    thresholds = description.thresholds.model_dump()
    apart = [abs((one.score or 0) - (other.score or 0)) for one, other in zip(served, reference, strict=True)]
    print(f"largest difference of two scores: {max(apart):.2g}")
    assert [verdict_of(one.score, **thresholds) for one in served] == [
        verdict_of(one.score, **thresholds) for one in reference
    ]
    assert max(apart) <= 0.02
    assert all(one.score is not None for one in served)


@pytest.mark.timeout(600)
def test_the_authors_evaluation_agrees_wherever_it_decides(served: list[Judgement], paths: list[Path]) -> None:
    command = [sys.executable, "-m", "tests.authors_evaluation", str(DEMO_DETECTOR), "16", *map(str, paths[:AUTHORS])]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert ran.returncode == 0, ran.stderr[-2000:]
    theirs = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert [line["image"] for line in theirs] == [str(path) for path in paths[:AUTHORS]]
    decided = [
        (line["verdict"], ours.answer) for line, ours in zip(theirs, served[:AUTHORS], strict=True) if line["verdict"]
    ]
    assert len(decided) >= AUTHORS * 0.9
    assert {verdict for verdict, _ in decided} == {"fake", "real"}
    assert [verdict for verdict, _ in decided] == [answer for _, answer in decided]


def test_the_engine_gets_what_the_processor_makes(
    vllm: Engine, transformers: Engine, description: VlmDescription, paths: list[Path]
) -> None:
    image = decode(paths[0].read_bytes())
    processor = AutoProcessor.from_pretrained(DEMO_DETECTOR)
    expected = processor(images=image, text=description.prompt_text, return_tensors="pt")["input_ids"][0].tolist()
    placeholder = processor.tokenizer.convert_tokens_to_ids(description.image_placeholder)
    assert description.prompt_text.count(description.image_placeholder) == 1
    assert expected.count(placeholder) == 576
    for engine in (vllm, transformers):
        assert list(completed(engine, [image])[0].prompt_token_ids) == expected


def generated_tokens() -> float:
    """vLLM's own count of generated tokens."""
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "vllm:generation_tokens_total"
    )


def test_flagged_generates_at_most_ten_tokens_for_a_real_image(
    vllm: Engine, served: list[Judgement], paths: list[Path]
) -> None:
    real = [path for path, judgement in zip(paths, served, strict=True) if judgement.answer == Answer.REAL]
    images = [decode(path.read_bytes()) for path in real]
    assert len(images) >= IMAGES / 4
    spent = {}
    for explain in (Explain.FLAGGED, Explain.ALL):
        before = generated_tokens()
        answers = completed(vllm, images, explain)
        spent[explain] = (generated_tokens() - before) / len(images)
        assert spent[explain] == pytest.approx(sum(len(answer.steps) for answer in answers) / len(images))
    print(f"tokens for a real image: {spent[Explain.FLAGGED]:.1f} flagged, {spent[Explain.ALL]:.1f} all")
    assert spent[Explain.FLAGGED] <= 10 < spent[Explain.ALL]
