"""Finds the generator that wrote its own parameters into a file: sd-parsers knows the formats of many, we add some."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from sd_parsers.data import PromptInfo
from sd_parsers.exceptions import ParserError
from sd_parsers.parsers import MANAGED_PARSERS, Parser

from worker.provenance import xmp
from worker.provenance.metadata import Metadata, fault
from worker.provenance.says import MAX_PROMPT, Generator, text_of

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
    "fooocus": "Fooocus",
    "invokeai": "InvokeAI",
    "comfyui": "ComfyUI",
}
"""How the names of programs that are generators begin, in small letters."""
_CREDITS = {"made with google ai": "Google AI"}
"""Credits that a generator writes by itself, as a whole. People write credits, too."""
_GRAPHS = ("prompt", "workflow")
_MAX_PARAMETERS = 20


def find_generator(metadata: Metadata) -> Generator | None:
    """Returns the generator of an image, or None. Raises nothing: what cannot be parsed becomes a fault."""
    return _parsed(metadata) or _midjourney(metadata) or _comfy(metadata) or _by_name(metadata)


@cache
def _parsers() -> tuple[Parser, ...]:
    return tuple(parser() for parser in MANAGED_PARSERS)  # type: ignore[abstract]  # all are whole classes


def _parsed(metadata: Metadata) -> Generator | None:
    """Asks the parsers of sd-parsers. Its extractors are not used: they decode PNGs, and mix up images (0.6)."""
    comment = metadata.comment()
    given = metadata.texts or ({"parameters": comment} if comment else {})
    for parser in _parsers() if given else ():
        try:
            return _of(parser.parse(dict(given)))
        except ParserError:
            continue
        except Exception as error:  # noqa: BLE001 - the texts come from strangers, and parsers raise anything
            metadata.faults.append(fault("generator", error))
    return None


def _of(info: PromptInfo) -> Generator:
    samplers = info.samplers
    prompt = next((one.value for sampler in samplers for one in sampler.prompts), None)
    model = next((sampler.model.name for sampler in samplers if sampler.model and sampler.model.name), None)
    parameters: dict[str, Any] = {}
    for sampler in samplers[:1]:
        parameters |= {"sampler": sampler.name, **sampler.parameters}
    return Generator(info.generator.value, text_of(model), text_of(prompt, MAX_PROMPT), _texts(parameters))


def _texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    pairs = ((text_of(name), text_of(value)) for name, value in list(parameters.items())[:_MAX_PARAMETERS])
    return {name: value for name, value in pairs if name and value}


def _midjourney(metadata: Metadata) -> Generator | None:
    texts = (metadata.texts.get("Description"), metadata.properties.get(xmp.DESCRIPTION),
             metadata.exif.get("ImageDescription"))  # fmt: skip
    for text in texts:
        if isinstance(text, str) and (found := _MIDJOURNEY.search(text)):
            prompt = text_of(text[: found.start()], MAX_PROMPT)
            return Generator("Midjourney", prompt=prompt, parameters={"job": found[0][8:]})
    return None


def _comfy(metadata: Metadata) -> Generator | None:
    """Finds ComfyUI by its graph: one that sd-parsers does not understand still says which program wrote it."""
    for key in _GRAPHS:
        text = metadata.texts.get(key, "").lstrip()
        if text.startswith("{") and ("class_type" in text or '"nodes"' in text):
            return Generator("ComfyUI")
    return None


def _by_name(metadata: Metadata) -> Generator | None:
    for name in metadata.programs():
        for beginning, generator in _PROGRAMS.items():
            if name.lower().startswith(beginning):
                return Generator(generator)
    credited = _CREDITS.get((metadata.iptc().credit or "").lower())
    return Generator(credited) if credited else None
