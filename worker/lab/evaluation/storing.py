"""Writes a detector's description with a new calibration and new thresholds, and keeps all the rest of the file."""

from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import tomlkit
from pydantic import BaseModel
from tomlkit.items import Array, Table

from worker.detector.calibration import Calibration
from worker.detector.description import (
    FILE,
    STAGES,
    CascadeDescription,
    DetectorDescription,
    Thresholds,
    parse_description,
)
from worker.detector.loading import DescriptionFile, find_source, load_description, stages_of
from worker.errors import ConfigurationError
from worker.files import replacing
from worker.lab.evaluation.outputs import check_folder
from worker.settings import Settings


def output_file(output: Path, settings: Settings, *, in_place: bool) -> Path:
    """Returns the file to write: `output`, or detector.toml in it if it is not a .toml file.

    Raises ConfigurationError if nothing can be written there, or if there is a file that must not be replaced. Only the
    detector's own file may be replaced, with `in_place`.
    """
    path = (output if output.suffix == ".toml" else output / FILE).expanduser().resolve()
    check_folder(path.parent, "--output")
    if path.exists() and str(path) != find_source(settings).where:
        raise ConfigurationError(f"--output: {path} exists already; give another place, or remove it")
    if path.exists() and not in_place:
        raise ConfigurationError(f"--output: {path} is the detector's own; --in-place replaces it")
    return path


def store(calibration: Calibration, thresholds: Thresholds, path: Path, settings: Settings) -> None:
    """Writes the description that `settings` name to `path`, with these two in it. See store_sections()."""
    store_sections({"calibration": calibration, "thresholds": thresholds}, path, settings)


def store_sections(sections: dict[str, BaseModel], path: Path, settings: Settings) -> None:
    """Writes the description that `settings` name to `path`, with these tables in it. Comments and order stay.

    Overrides from the environment are written into the file. If the new file is in another folder, so is the place of a
    model beside the old file. Raises ConfigurationError if the file would describe another detector.
    """
    source, described = find_source(settings), load_description(settings)
    wanted = described.model_copy(update=sections)
    load = stages_of(settings)
    own = parse_description(
        source.text, where=source.where, overrides={},
        load=lambda stage, name: load(stage, source.locate_stage(stage, name)),
    )  # fmt: skip
    if path.parent == source.base and not settings.model:
        described = described.model_copy(update={"model": own.model})  # the same text leads to the same place
    document = tomlkit.parse(source.text)
    # What load_description() may have overridden: the place of the model, and the settings of the environment.
    if isinstance(own, CascadeDescription):
        _locate_stages(document, path, source)
    for name in () if isinstance(own, CascadeDescription) else ("model", *filter(None, own.overridable.values())):
        if attrgetter(name)(own) != attrgetter(name)(described):
            _put(document, name, attrgetter(name)(described))
    if own.checksums and not described.checksums:
        document.remove("checksums")
    for name, section in sections.items():
        exclude = name == "calibration"  # its defaults mean that there is none
        _fill(document, name, section.model_dump(mode="json", exclude_defaults=exclude, exclude_none=True))
    _write(tomlkit.dumps(document), path, wanted, settings)


def _locate_stages(document: tomlkit.TOMLDocument, path: Path, source: DescriptionFile) -> None:
    """In another folder, a stage beside the old file is named by its whole path."""
    if path.parent != source.base:
        for stage in STAGES:
            if (name := str(document[stage])).startswith("."):
                document[stage] = source.locate_stage(stage, name)


def _put(document: tomlkit.TOMLDocument, name: str, value: str | None) -> None:
    section, _, key = name.rpartition(".")
    table = _table(document, section) if section else document
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _fill(document: tomlkit.TOMLDocument, section: str, values: dict[str, Any]) -> None:
    """Gives the section these values and no others."""
    table = _table(document, section)
    for key in [key for key in table if key not in values]:
        table.remove(key)
    for key, value in values.items():
        table[key] = _lines(value) if isinstance(value, list) else value


def _lines(values: list[Any]) -> Array:
    array = tomlkit.array()
    array.extend(values)
    return array.multiline(True)


def _table(document: tomlkit.TOMLDocument, section: str) -> Table:
    if section not in document:
        document.append(section, tomlkit.table())
    return cast("Table", document[section])


def _write(text: str, path: Path, wanted: DetectorDescription, settings: Settings) -> None:
    if DescriptionFile(text, str(path), path.parent).describe(stages_of(settings), {}) != wanted:
        raise ConfigurationError(f"--output: {path} would describe another detector; copy its folder there first")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(text)
