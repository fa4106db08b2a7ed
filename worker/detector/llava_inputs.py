"""Makes prompts for LLaVA models in our own threads, in the form that vLLM's engine core takes: token ids and pixels.

vLLM's renderer writes the same tokens for each of our images. It also asks Hugging Face's processor to resize, crop and
normalise an image that already has its size. All that is needed is a table: 3 channels x 256 levels -> pixel value. We
read the tokens, the image's place among them and the table from the renderer's answer to one test image. For a second
image, our result must equal the renderer's bit for bit. If it does not, raw prompts go to the renderer as before
(docs/decisions/0010).
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import structlog
import torch
from PIL import Image
from vllm.v1.engine.async_llm import AsyncLLM

from worker.errors import EngineGenerateError, NotReadyError

log = structlog.get_logger(__name__)

_LLAVA = "LlavaForConditionalGeneration"
_LEVELS = 256


Prompt = Mapping[str, Any]
"""The prompt that AsyncLLM.generate takes."""


class Inputs(Protocol):
    """Makes the prompts of a detector's images."""

    def of(self, images: Sequence[Image.Image]) -> list[Prompt | EngineGenerateError]:
        """Returns a prompt for each image, in order, or the reason why that image has none."""


class RenderedInputs:
    """Leaves all work to vLLM's renderer, for models other than LLaVA. `prompt` has its image placeholder."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt

    def of(self, images: Sequence[Image.Image]) -> list[Prompt | EngineGenerateError]:
        """See Inputs."""
        return [{"prompt": self._prompt, "multi_modal_data": {"image": image}} for image in images]


class ReadyInputs:
    """Makes the same prompts as vLLM's renderer, for RGB images of `edge` x `edge` pixels. Thread-safe.

    `rendered` is the renderer's answer to `levels_image(edge)`. Raises NotReadyError if it is not of LLaVA's form.
    """

    def __init__(self, rendered: Prompt, edge: int) -> None:
        self._edge = edge
        self._token_ids = list(rendered["prompt_token_ids"])
        self._places = rendered["mm_placeholders"]
        element = _pixel_element(rendered)
        self._field, self._dtype = element.field, element.data.dtype
        if tuple(element.data.shape) != (3, edge, edge) or self._dtype.itemsize not in {2, 4}:
            raise NotReadyError(f"pixel values are {self._dtype} {tuple(element.data.shape)}, not 3 x {edge} x {edge}")
        self._table = _bits(element.data.reshape(3, -1)[:, :_LEVELS].contiguous())

    def of(self, images: Sequence[Image.Image]) -> list[Prompt | EngineGenerateError]:
        """See Inputs. An image of another size or mode gets no prompt."""
        fitting = [image for image in images if image.size == (self._edge, self._edge) and image.mode == "RGB"]
        ready = iter(self.pixel_values(fitting))
        wanted = f"{self._edge} x {self._edge} RGB"
        return [
            self._prompt(next(ready))
            if f"{image.width} x {image.height} {image.mode}" == wanted
            else EngineGenerateError(f"the image is {image.width} x {image.height} {image.mode}, not {wanted}")
            for image in images
        ]

    def pixel_values(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Returns n x 3 x edge x edge values in the model's dtype, rescaled and normalised. The images must fit."""
        # One block for all: a block per image is too small for huge pages, and mapping it costs more than filling it.
        values = np.empty((len(images), 3, self._edge, self._edge), self._table.dtype)
        for image, channels in zip(images, values, strict=True):
            for table, band, out in zip(self._table, image.split(), channels, strict=True):
                np.take(table, np.asarray(band), out=out, mode="clip")  # "raise" would need a buffer of its own
        return torch.from_numpy(values).view(self._dtype)

    def _prompt(self, pixel_values: torch.Tensor) -> Prompt:
        # Imported here: if vLLM does not have these names, inputs_for() fails and falls back to the renderer.
        from vllm.inputs.engine import mm_input  # noqa: PLC0415
        from vllm.multimodal.inputs import (  # noqa: PLC0415
            MultiModalFieldElem,
            MultiModalKwargsItem,
            MultiModalKwargsItems,
        )

        item = MultiModalKwargsItem({"pixel_values": MultiModalFieldElem(data=pixel_values, field=self._field)})
        return mm_input(  # type: ignore[no-any-return]
            prompt_token_ids=list(self._token_ids),
            mm_kwargs=MultiModalKwargsItems({"image": [item]}),
            # The engine core caches an image's encoding under this name, so no two images may share one.
            mm_hashes={"image": [uuid.uuid4().hex]},
            mm_placeholders=self._places,
        )


async def inputs_for(llm: AsyncLLM, folder: Path, prompt: str, edge: int) -> Inputs:
    """Returns ReadyInputs if the model in `folder` is a LLaVA and they equal the renderer's; otherwise RenderedInputs.

    Logs the choice and its reason.
    """
    try:
        _check_llava(folder)
        ready = ReadyInputs(await _rendered(llm, prompt, levels_image(edge)), edge)
        noise = np.random.default_rng(0).integers(0, _LEVELS, (edge, edge, 3), dtype=np.uint8)
        image = Image.fromarray(noise)
        (ours,) = ready.of([image])
        if isinstance(ours, EngineGenerateError):
            raise ours  # noqa: TRY301
        check_equal(ours, await _rendered(llm, prompt, image))
    except NotReadyError as error:
        log.info("inputs_rendered_by_vllm", reason=str(error))
    except Exception as error:  # noqa: BLE001 - vLLM's internals have changed; its renderer still works
        log.warning("inputs_rendered_by_vllm", reason=f"{type(error).__name__}: {error}")
    else:
        log.info("inputs_ready", edge=edge)
        return ready
    return RenderedInputs(prompt)


def levels_image(edge: int) -> Image.Image:
    """Returns an image whose first 256 pixels have the levels 0 to 255 in each channel. Raises NotReadyError."""
    if edge * edge < _LEVELS:
        raise NotReadyError(f"an image of {edge} x {edge} pixels has fewer than {_LEVELS} pixels")
    levels = (np.arange(edge * edge) % _LEVELS).astype(np.uint8).reshape(edge, edge)
    return Image.fromarray(np.stack([levels] * 3, axis=-1))


def check_equal(ready: Prompt, rendered: Prompt) -> None:
    """Raises NotReadyError unless both have the same tokens and places, and the same pixel values bit for bit."""
    for part in ("prompt_token_ids", "mm_placeholders"):
        if ready[part] != rendered[part]:
            raise NotReadyError(f"vLLM's renderer makes different {part}")
    ours, theirs = (_pixel_element(one).data for one in (ready, rendered))
    if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
        raise NotReadyError("vLLM's renderer makes different pixel values")


def _check_llava(folder: Path) -> None:
    architectures = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    if _LLAVA not in architectures:
        raise NotReadyError(f"the model is {', '.join(architectures) or 'of no named architecture'}, not {_LLAVA}")


async def _rendered(llm: AsyncLLM, prompt: str, image: Image.Image) -> Prompt:
    """Returns the renderer's answer to the raw prompt. It is asked in the same way as by AsyncLLM."""
    from vllm.renderers.inputs.preprocess import parse_model_prompt  # noqa: PLC0415

    (raw,) = RenderedInputs(prompt).of([image])
    parsed = parse_model_prompt(llm.model_config, raw)
    renderer = llm.renderer
    # This runs in the renderer's threads: it may be warming up there, and two threads must not share a tokenizer.
    (rendered,) = await renderer.render_cmpl_async([parsed], renderer.default_cmpl_tok_params)
    return rendered  # type: ignore[no-any-return]


def _pixel_element(rendered: Prompt) -> Any:
    """Returns the pixel values of the only image, with their field. Raises NotReadyError if there is anything else."""
    items = rendered.get("mm_kwargs", {})
    images = items.get("image", [])
    if rendered.get("type") != "multimodal" or set(items) != {"image"} or len(images) != 1:
        raise NotReadyError("vLLM's renderer does not make exactly one image of the prompt")
    if set(images[0]) != {"pixel_values"}:
        raise NotReadyError(f"the model also wants {', '.join(sorted(set(images[0]) - {'pixel_values'}))}")
    return images[0]["pixel_values"]


def _bits(values: torch.Tensor) -> np.ndarray:
    """Returns the same bits as integers, because numpy has no bfloat16."""
    return values.view(torch.int16 if values.dtype.itemsize == 2 else torch.int32).numpy()  # noqa: PLR2004
