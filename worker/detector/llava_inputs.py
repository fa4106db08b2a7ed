"""Prompts for LLaVA models as vLLM's engine core wants them: token ids and pixel values, made in our own threads.

vLLM's renderer writes the same tokens for each of our images, and asks Hugging Face's processor, which resizes, crops
and normalises an image that has its size already. What is left for us is a table: 3 channels x 256 levels -> pixel
value. Tokens, the image's place among them and the table are read off the renderer's own answer to one test image, and
a second image must come out bit for bit as the renderer makes it. Where it does not, the raw prompt goes on to the
renderer as before (docs/decisions/0010).
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
"""What AsyncLLM.generate takes."""


class Inputs(Protocol):
    """Makes the prompts of a detector's images."""

    def of(self, images: Sequence[Image.Image]) -> list[Prompt | EngineGenerateError]:
        """A prompt for each image, in order, or why that image has none."""


class RenderedInputs:
    """Leaves all to vLLM's renderer: for models other than LLaVA. `prompt` with its image placeholder."""

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt

    def of(self, images: Sequence[Image.Image]) -> list[Prompt | EngineGenerateError]:
        """See Inputs."""
        return [{"prompt": self._prompt, "multi_modal_data": {"image": image}} for image in images]


class ReadyInputs:
    """Makes what vLLM's renderer would make, for RGB images of `edge` x `edge` pixels. Thread-safe.

    `rendered` is the renderer's answer to `levels_image(edge)`. Raises NotReadyError when it is not of LLaVA's form.
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
        """See Inputs. An image of another size or mode has none."""
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
        """n x 3 x edge x edge in the model's dtype, rescaled and normalised; the images must fit."""
        # One block for all: a block for each image is too small for large pages, and to map it costs more than to fill.
        values = np.empty((len(images), 3, self._edge, self._edge), self._table.dtype)
        for image, channels in zip(images, values, strict=True):
            for table, band, out in zip(self._table, image.split(), channels, strict=True):
                np.take(table, np.asarray(band), out=out, mode="clip")  # "raise" would fill a buffer of its own first
        return torch.from_numpy(values).view(self._dtype)

    def _prompt(self, pixel_values: torch.Tensor) -> Prompt:
        # Imported here: a vLLM without these names then fails in inputs_for(), which falls back.
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
            # The engine core caches an image's encoding under this name. Two images with one name would be mixed up.
            mm_hashes={"image": [uuid.uuid4().hex]},
            mm_placeholders=self._places,
        )


async def inputs_for(llm: AsyncLLM, folder: Path, prompt: str, edge: int) -> Inputs:
    """ReadyInputs when the model in `folder` is a LLaVA and they prove equal to the renderer's; else RenderedInputs.

    Logs which, and why.
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
    except Exception as error:  # noqa: BLE001 - vLLM's insides have moved: its renderer goes on working
        log.warning("inputs_rendered_by_vllm", reason=f"{type(error).__name__}: {error}")
    else:
        log.info("inputs_ready", edge=edge)
        return ready
    return RenderedInputs(prompt)


def levels_image(edge: int) -> Image.Image:
    """Its first 256 pixels, row after row, have the levels 0 to 255 in each channel. Raises NotReadyError."""
    if edge * edge < _LEVELS:
        raise NotReadyError(f"an image of {edge} x {edge} pixels has fewer than {_LEVELS} levels")
    levels = (np.arange(edge * edge) % _LEVELS).astype(np.uint8).reshape(edge, edge)
    return Image.fromarray(np.stack([levels] * 3, axis=-1))


def check_equal(ready: Prompt, rendered: Prompt) -> None:
    """Raises NotReadyError unless both have the same tokens, places and, bit for bit, pixel values."""
    for part in ("prompt_token_ids", "mm_placeholders"):
        if ready[part] != rendered[part]:
            raise NotReadyError(f"vLLM's renderer makes other {part}")
    ours, theirs = (_pixel_element(one).data for one in (ready, rendered))
    if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
        raise NotReadyError("vLLM's renderer makes other pixel values")


def _check_llava(folder: Path) -> None:
    architectures = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    if _LLAVA not in architectures:
        raise NotReadyError(f"the model is {', '.join(architectures) or 'of no named architecture'}, not {_LLAVA}")


async def _rendered(llm: AsyncLLM, prompt: str, image: Image.Image) -> Prompt:
    """The renderer's answer to the raw prompt, as AsyncLLM asks for it."""
    from vllm.renderers.inputs.preprocess import parse_model_prompt  # noqa: PLC0415

    (raw,) = RenderedInputs(prompt).of([image])
    parsed = parse_model_prompt(llm.model_config, raw)
    renderer = llm.renderer
    # In its own threads: it may be warming up there, and a tokenizer must not be used by two threads at once.
    (rendered,) = await renderer.render_cmpl_async([parsed], renderer.default_cmpl_tok_params)
    return rendered  # type: ignore[no-any-return]


def _pixel_element(rendered: Prompt) -> Any:
    """The one image's pixel values with their field. Raises NotReadyError when there is anything else."""
    items = rendered.get("mm_kwargs", {})
    images = items.get("image", [])
    if rendered.get("type") != "multimodal" or set(items) != {"image"} or len(images) != 1:
        raise NotReadyError("vLLM's renderer does not make one image of the prompt")
    if set(images[0]) != {"pixel_values"}:
        raise NotReadyError(f"the model also wants {', '.join(sorted(set(images[0]) - {'pixel_values'}))}")
    return images[0]["pixel_values"]


def _bits(values: torch.Tensor) -> np.ndarray:
    """The same bits as integers: numpy has no bfloat16."""
    return values.view(torch.int16 if values.dtype.itemsize == 2 else torch.int32).numpy()  # noqa: PLR2004
