"""Reads the text of a detector.toml, of any kind."""

import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from worker.detector.description.base import DetectorDescription, Kind
from worker.detector.description.cascade import CascadeDescription
from worker.detector.description.classifier import ClassifierDescription
from worker.detector.description.vlm import VlmDescription
from worker.errors import ConfigurationError
from worker.wording import worded

FILE = "detector.toml"

_KINDS: dict[str, type[DetectorDescription]] = {
    Kind.VLM: VlmDescription,
    Kind.CLASSIFIER: ClassifierDescription,
    Kind.CASCADE: CascadeDescription,
}
STAGES = ("first", "judge")
"""The fields of a cascade that name other detectors."""


def parse_description(
    text: str, *, where: str, load: Callable[[str, str], DetectorDescription], overrides: Mapping[str, str]
) -> DetectorDescription:
    """Returns the description in a file's text. Without `kind`, it is of a vision-language model.

    `overrides` are the settings that override the text, by the names that worker.settings has for them. `load` returns
    the description of a stage of a cascade: `first` or `judge`, and its name in the file. Raises ConfigurationError
    with the name of the file, `where`, and the first fault in it.
    """
    try:
        content = tomllib.loads(text)
        kind = _kind(content)
        _override(content, kind, overrides)
        if kind is CascadeDescription:
            content |= {stage: load(stage, _stage_of(content, stage, where)) for stage in STAGES}
        return kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise ConfigurationError(f"FAKESWEEP_DETECTOR: {where}: {field or 'whole file'}: {worded(fault)}") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"FAKESWEEP_DETECTOR: {where} is not a description: {error}") from None


def _kind(content: dict[str, Any]) -> type[DetectorDescription]:
    kind = content.get("kind", Kind.VLM)
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, not {kind!r}")
    return _KINDS[kind]


def _stage_of(content: dict[str, Any], stage: str, where: str) -> str:
    """Returns the name of a stage in the file."""
    if not isinstance(name := content.get(stage), str) or not name:
        raise ConfigurationError(
            f"FAKESWEEP_DETECTOR: {where}: {stage} is missing: give the name, folder or file of a detector"
        )
    return name


def _override(content: dict[str, Any], kind: type[DetectorDescription], overrides: Mapping[str, str]) -> None:
    for name, value in overrides.items():
        if name not in kind.overridable:
            raise ConfigurationError(
                f"FAKESWEEP_{name.upper()}: the detector is a {kind.model_fields['kind'].default}, which does not have "
                "this setting; unset it"
            )
        if place := kind.overridable[name]:
            section, _, key = place.rpartition(".")
            (content.setdefault(section, {}) if section else content)[key] = value


def vlm_only(description: DetectorDescription, purpose: str) -> VlmDescription:
    """Returns the description if it is of a vision-language model. `purpose` says what needs one.

    Raises ConfigurationError for any other kind.
    """
    if not isinstance(description, VlmDescription):
        raise ConfigurationError(
            f"FAKESWEEP_DETECTOR: {description.name} is a {description.kind}, and {purpose} needs a vision-language "
            "model; give such a detector"
        )
    return description
