"""Finds the generator that wrote its own parameters into a file: sd-parsers knows the formats of many, we add some."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from PIL import Image
from sd_parsers import ParserManager
from sd_parsers.data import PromptInfo
from sd_parsers.extractors import Eagerness

from worker.provenance import xmp
from worker.provenance.metadata import Metadata
from worker.provenance.says import Generator, text_of

_MIDJOURNEY = re.compile(r"Job ID: [0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
"""Midjourney ends the description of an image with the id of its job."""
_PROGRAMS = {
    "adobe firefly": "Firefly",
    "dall-e": "DALL-E",
    "dall·e": "DALL-E",
    "draw things": "Draw Things",
    "midjourney": "Midjourney",
    "novelai": "NovelAI",
    "stable diffusion": "Stable Diffusion",
    "made with google ai": "Google AI",
    "fooocus": "Fooocus",
    "invokeai": "InvokeAI",
    "comfyui": "ComfyUI",
}
"""What names of programs and credits contain if the program is a generator, in small letters."""
_COMFY = ("prompt", "workflow")
_MAX_PARAMETERS = 50


def find_generator(metadata: Metadata, image: Image.Image | None) -> Generator | None:
    """Returns the generator of an image, or None. Parsers may raise any error on hostile input: see _parsed."""
    return (
        (image and _parsed(image, metadata))
        or _midjourney(metadata)
        or _comfy(metadata)
        or _by_program(metadata)
        or None
    )


@cache
def _parsers() -> ParserManager:
    return ParserManager(eagerness=Eagerness.FAST)


def _parsed(image: Image.Image, metadata: Metadata) -> Generator | None:
    try:
        info = _parsers().parse(image)
    except Exception as error:  # noqa: BLE001 - sd-parsers lets errors of any kind through
        metadata.faults.append(f"generator: {type(error).__name__}: {error}"[:200])
        return None
    return _of(info) if info else None


def _of(info: PromptInfo) -> Generator:
    samplers = info.samplers
    prompt = next((one.value for sampler in samplers for one in sampler.prompts), None)
    model = next((sampler.model.name for sampler in samplers if sampler.model and sampler.model.name), None)
    parameters: dict[str, Any] = {}
    for sampler in samplers[:1]:
        parameters |= {"sampler": sampler.name, **sampler.parameters}
    return Generator(info.generator.value, text_of(model), text_of(prompt), _texts(parameters))


def _texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    pairs = ((text_of(name), text_of(value)) for name, value in list(parameters.items())[:_MAX_PARAMETERS])
    return {name: value for name, value in pairs if name and value}


def _midjourney(metadata: Metadata) -> Generator | None:
    texts = (metadata.texts.get("Description"), metadata.properties.get(xmp.DESCRIPTION),
             metadata.exif.get("ImageDescription"))  # fmt: skip
    for text in texts:
        if isinstance(text, str) and (found := _MIDJOURNEY.search(text)):
            return Generator("Midjourney", prompt=text_of(text[: found.start()]), parameters={"job": found[0][8:]})
    return None


def _comfy(metadata: Metadata) -> Generator | None:
    """Finds ComfyUI by its graph: one that sd-parsers does not understand still says which program wrote it."""
    for key in _COMFY:
        text = metadata.texts.get(key, "").lstrip()
        if text.startswith("{") and ("class_type" in text or '"nodes"' in text):
            return Generator("ComfyUI")
    return None


def _by_program(metadata: Metadata) -> Generator | None:
    names = [metadata.program(), metadata.iptc().credit, metadata.texts.get("Source")]
    for name in filter(None, names):
        for part, generator in _PROGRAMS.items():
            if part in name.lower():
                return Generator(generator)
    return None
