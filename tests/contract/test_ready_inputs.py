"""Ready inputs on real vLLM: they give the same tokens, pixels and answers as vLLM's renderer.

Where they cannot be used, the renderer is used.
"""

import asyncio
import json
from collections.abc import Awaitable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor
from vllm import SamplingParams
from vllm.inputs.engine import mm_input
from vllm.multimodal.inputs import (
    MultiModalFieldConfig,
    MultiModalFieldElem,
    MultiModalKwargsItem,
    MultiModalKwargsItems,
    PlaceholderRange,
)

from deploy.demo.answers import FAMILIES, REAL
from deploy.demo.draw import draw
from tests.conftest import DEMO_DETECTOR
from worker.detector.description import VlmDescription
from worker.detector.engine import Completion, Engine
from worker.detector.llava_inputs import (
    ReadyInputs,
    RenderedInputs,
    check_equal,
    inputs_for,
    levels_image,
)
from worker.detector.tokens import together
from worker.detector.vllm_front_end import remembered
from worker.errors import EngineGenerateError, NotReadyError
from worker.images import to_square
from worker.messages import Explain

PROMPT = "<image>Does the image looks real/fake?"
EDGE = 336


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    kinds = [REAL, *FAMILIES]
    drawn = [to_square(draw(910_000 + number, kinds[number % len(kinds)]), edge=EDGE) for number in range(12)]
    noise = np.random.default_rng(7).integers(0, 256, (EDGE, EDGE, 3), dtype=np.uint8)
    return [*drawn, Image.fromarray(noise), Image.new("RGB", (EDGE, EDGE), "white")]


@pytest.fixture(scope="module")
def ready(vllm: Any) -> ReadyInputs:
    """What the demo detector's engine has chosen: ready inputs, or the renderer."""
    found = vllm._inputs
    assert isinstance(found, ReadyInputs)
    return found


def within(vllm: Any, work: Awaitable[Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(work, vllm._loop).result(120)  # type: ignore[arg-type]


def prompts(inputs: ReadyInputs, images: Sequence[Image.Image]) -> list[Any]:
    made = inputs.of(images)
    assert not any(isinstance(one, EngineGenerateError) for one in made)
    return made


def test_tokens_and_pixels_are_those_of_the_processor(ready: ReadyInputs, images: list[Image.Image]) -> None:
    processor = AutoProcessor.from_pretrained(DEMO_DETECTOR)
    for image, ours in zip(images, prompts(ready, images), strict=True):
        theirs = processor(text=PROMPT, images=image, return_tensors="pt")
        assert ours["prompt_token_ids"] == theirs["input_ids"][0].tolist()
        assert torch.equal(ours["mm_kwargs"]["image"][0]["pixel_values"].data, theirs["pixel_values"][0])


def test_the_image_tokens_are_at_the_given_places(ready: ReadyInputs, images: list[Image.Image]) -> None:
    image_token = json.loads((DEMO_DETECTOR / "config.json").read_text())["image_token_index"]
    (ours,) = prompts(ready, images[:1])
    (place,) = ours["mm_placeholders"]["image"]
    ids = ours["prompt_token_ids"]
    assert [number for number, id_ in enumerate(ids) if id_ == image_token] == list(
        range(place.offset, place.offset + place.length)
    )
    assert place.length == 576


def test_each_image_has_its_own_hash(ready: ReadyInputs, images: list[Image.Image]) -> None:
    names = {one["mm_hashes"]["image"][0] for one in prompts(ready, [*images, *images])}
    assert len(names) == 2 * len(images)


@pytest.mark.parametrize("explain", Explain)
def test_answers_are_those_of_the_raw_prompt(
    vllm: Any, description: VlmDescription, images: list[Image.Image], explain: Explain
) -> None:
    ours = vllm.complete(images, explain=explain)
    tokens = vllm._verdict_tokens
    for image, answer in zip(images, ours, strict=True):
        assert isinstance(answer, Completion)
        raw = within(vllm, raw_answer(vllm, image, description.answer.stops(explain)))
        completion = raw.outputs[0]
        assert [step.token_id for step in answer.steps] == list(completion.token_ids)
        assert answer.text == completion.text.lstrip()  # vLLM puts the space before the text that follows the prompt
        assert answer.prompt_token_ids == tuple(raw.prompt_token_ids)
        for step, logprobs in zip(answer.steps, completion.logprobs, strict=True):
            for found, side in ((step.fake, tokens.fake), (step.real, tokens.real)):
                assert found == pytest.approx(together(logprobs[id_].logprob for id_ in side), abs=1e-4)


async def raw_answer(vllm: Any, image: Image.Image, stops: list[str]) -> Any:
    """Asks as users of vLLM do: with the prompt's text and the image."""
    ids = list(vllm._verdict_tokens.ids)
    sampling = SamplingParams(
        temperature=0, max_tokens=64, stop=stops, include_stop_str_in_output=True, logprobs=len(ids),
        logprob_token_ids=ids,
    )  # fmt: skip
    prompt = {"prompt": PROMPT, "multi_modal_data": {"image": image}}
    final = None
    async for output in vllm._llm.generate(prompt, sampling, f"raw-{id(image)}"):
        final = output
    return final


def test_an_image_of_another_size_is_refused_and_the_others_are_judged(vllm: Engine, images: list[Image.Image]) -> None:
    small, grey = Image.new("RGB", (300, EDGE)), Image.new("L", (EDGE, EDGE))
    first, refused, unfit, last = vllm.complete([images[0], small, grey, images[1]], explain=Explain.NONE)
    assert isinstance(first, Completion)
    assert isinstance(last, Completion)
    assert isinstance(refused, EngineGenerateError)
    assert "300 x 336 RGB, not 336 x 336 RGB" in str(refused)
    assert isinstance(unfit, EngineGenerateError)
    assert vllm.complete([images[1]], explain=Explain.NONE)[0].text == last.text  # type: ignore[union-attr]


def folder_of(path: Path, architecture: str) -> Path:
    (path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return path


def test_other_models_use_the_renderer(vllm: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "Qwen2VLForConditionalGeneration")
    found = within(vllm, inputs_for(vllm._llm, folder, PROMPT, EDGE))
    assert isinstance(found, RenderedInputs)
    image = Image.new("RGB", (20, 30))
    assert found.of([image]) == [{"prompt": PROMPT, "multi_modal_data": {"image": image}}]


@pytest.mark.parametrize("edge", [15, 224])
def test_a_size_that_the_processor_changes_uses_the_renderer(vllm: Any, edge: int) -> None:
    assert isinstance(within(vllm, inputs_for(vllm._llm, DEMO_DETECTOR, PROMPT, edge)), RenderedInputs)


class OtherRenderer:
    """vLLM's renderer, which gives another answer from its second call on."""

    default_cmpl_tok_params = None

    def __init__(self, inner: Any, changes: dict[str, Any]) -> None:
        self._inner, self._changes, self._calls = inner, changes, 0

    async def render_cmpl_async(self, parsed: Any, _parameters: Any) -> list[Any]:
        self._calls += 1
        (found,) = await self._inner.render_cmpl_async(parsed, self._inner.default_cmpl_tok_params)
        return [found if self._calls == 1 else found | self._changes]


def test_the_renderer_is_used_when_it_gives_other_inputs(vllm: Any, images: list[Image.Image]) -> None:
    llm = vllm._llm
    other_pixels = prompts(vllm._inputs, images[:1])[0]["mm_kwargs"]
    differing: list[dict[str, Any]] = [
        {"prompt_token_ids": [1, 2, 3]}, {"mm_kwargs": other_pixels}, {"mm_placeholders": {"image": []}}
    ]  # fmt: skip
    for changes in differing:
        changed: Any = SimpleNamespace(model_config=llm.model_config, renderer=OtherRenderer(llm.renderer, changes))
        assert isinstance(within(vllm, inputs_for(changed, DEMO_DETECTOR, PROMPT, EDGE)), RenderedInputs)
    same: Any = SimpleNamespace(model_config=llm.model_config, renderer=OtherRenderer(llm.renderer, {}))
    assert isinstance(within(vllm, inputs_for(same, DEMO_DETECTOR, PROMPT, EDGE)), ReadyInputs)


def test_the_renderer_is_used_when_vllm_has_other_internals(vllm: Any) -> None:
    without: Any = SimpleNamespace(model_config=vllm._llm.model_config)
    assert isinstance(within(vllm, inputs_for(without, DEMO_DETECTOR, PROMPT, EDGE)), RenderedInputs)


def test_one_pixel_that_differs_is_found(ready: ReadyInputs, images: list[Image.Image]) -> None:
    (ours,), (theirs,) = prompts(ready, images[:1]), prompts(ready, images[:1])
    check_equal(ours, theirs)
    theirs["mm_kwargs"]["image"][0]["pixel_values"].data[2, 335, 335] += 1e-6
    with pytest.raises(NotReadyError, match="pixel values"):
        check_equal(ours, theirs)


def normalised(image: Image.Image, dtype: torch.dtype) -> dict[str, Any]:
    """A renderer's answer for an image, in the dtype of the model."""
    scaled = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    values = ((scaled - torch.tensor(0.45)) / torch.tensor([0.26, 0.27, 0.28]).view(3, 1, 1)).to(dtype)
    element = MultiModalFieldElem(data=values, field=MultiModalFieldConfig.batched("image").field)
    item = MultiModalKwargsItem({"pixel_values": element})
    places = {"image": [PlaceholderRange(offset=1, length=2)]}
    return dict(mm_input([1, 9, 9, 2], MultiModalKwargsItems({"image": [item]}), {"image": ["name"]}, places))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_pixels_in_the_dtypes_that_models_have(images: list[Image.Image], dtype: torch.dtype) -> None:
    inputs = ReadyInputs(normalised(levels_image(EDGE), dtype), EDGE)
    for image, ours in zip(images, prompts(inputs, images), strict=True):
        check_equal(ours, normalised(image, dtype))
    assert inputs.of([]) == []


def test_a_model_that_needs_more_than_pixels_has_no_ready_inputs() -> None:
    rendered = normalised(levels_image(EDGE), torch.float32)
    rendered["mm_kwargs"]["image"][0]["image_sizes"] = rendered["mm_kwargs"]["image"][0]["pixel_values"]
    with pytest.raises(NotReadyError, match="image_sizes"):
        ReadyInputs(rendered, EDGE)


def test_the_levels_image_has_all_levels_in_its_first_pixels() -> None:
    pixels = np.asarray(levels_image(16)).reshape(-1, 3)
    assert pixels.shape == (256, 3)
    assert all((pixels[:, channel] == np.arange(256)).all() for channel in range(3))


def test_remembered_calls_once_for_the_same_tokens_and_passes_options_on() -> None:
    asked: list[Any] = []

    def decode(ids: Any, *, spaces: bool = False) -> list[str]:
        asked.append(ids)
        return [f"{ids} {spaces}"]

    call = remembered(decode)
    first = call([1, 2])
    first.append("changed by its caller")
    assert call([1, 2]) == ["[1, 2] False"]
    assert asked == [[1, 2]]
    assert call([1, 2], spaces=True) == ["[1, 2] True"]
    assert call(3) == ["3 False"]
