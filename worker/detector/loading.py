"""Finds the description that FAKESWEEP_DETECTOR names, and applies the settings that override it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from worker.detector.description import FILE, CascadeDescription, DetectorDescription, parse_description
from worker.detector.foreign_calibration import without_foreign_calibration
from worker.detector.hub import not_on_hub, warn_unless_pinned
from worker.detector.s3_model import SCHEME, S3Model
from worker.errors import ConfigurationError
from worker.files import read_text
from worker.settings import Settings

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
OVERRIDES = ("prompt", "dtype", "quantization", "kv_cache_dtype", "revision")
"""The settings that override a description. Each kind says which of them it has."""


@dataclass(frozen=True)
class DescriptionFile:
    """The text of a description, and its place: a folder, s3://bucket/prefix, or a hub id with its commit."""

    text: str
    where: str
    base: Path | str
    commit: str | None = None

    def locate(self, model: str) -> str:
        """Returns what `model` means in this description: a path that begins with a dot is relative to the file."""
        if isinstance(self.base, Path):
            return _absolute(model, self.base)
        return "/".join([self.base, *PurePosixPath(model).parts]) if model.startswith(".") else model

    def locate_stage(self, stage: str, name: str) -> str:
        """Returns what the name of a stage of a cascade means here: a path begins with a dot, a slash or a tilde.

        So a folder beside the file that is called like a known detector is not taken in its place. Raises
        ConfigurationError for a path in a description of the hub: only repositories are fetched from there.
        """
        if not name.startswith((".", "/", "~")):
            return name
        if name.startswith(".") and self.commit:
            raise ConfigurationError(
                f"FAKESWEEP_DETECTOR: {self.where}: {stage} = {name} is a path, but a cascade on the hub holds no "
                "stages; name a repository for each stage, or download the cascade and give its folder"
            )
        return self.locate(name)

    def describe(
        self, load: Callable[[str, str], DetectorDescription], overrides: Mapping[str, str]
    ) -> DetectorDescription:
        """Returns the description with its model located. `overrides` are settings by name, in place of the text.

        `load` returns the description of a stage of a cascade: of `first` or `judge`, which has this name.
        Raises ConfigurationError when it is not valid.
        """
        description = parse_description(
            self.text,
            where=self.where,
            overrides=overrides,
            load=lambda stage, name: load(stage, self.locate_stage(stage, name)),
        )
        if isinstance(description, CascadeDescription):
            return description
        own: dict[str, Any] = {"model": self.locate(description.model)}
        if self.commit and description.model.startswith("."):
            own["revision"] = self.commit
        return description.model_copy(update=own)


def load_description(settings: Settings) -> DetectorDescription:
    """Returns the description that FAKESWEEP_DETECTOR names, with overrides from the environment.

    Raises ConfigurationError if there is none or it is not valid, and StorageUnavailableError if S3 is away.
    """
    return _described(settings, stages_of(settings))


def _described(settings: Settings, load: Callable[[str, str], DetectorDescription]) -> DetectorDescription:
    overrides = {name: value for name in OVERRIDES if (value := getattr(settings, name)) is not None}
    description = find_source(settings).describe(load, overrides)
    if settings.model:
        if isinstance(description, CascadeDescription):
            raise ConfigurationError(
                f"FAKESWEEP_MODEL: {description.name} is a cascade of two models; name them in its stages' descriptions"
            )
        # Another model: the description's revision and checksums belong to its own model.
        own: dict[str, Any] = {
            "model": _absolute(settings.model, Path.cwd()),
            "revision": settings.revision,
            "checksums": {},
        }
        description = description.model_copy(update=own)
    return without_foreign_calibration(description, settings)


def stages_of(settings: Settings) -> Callable[[str, str], DetectorDescription]:
    """Returns the function that loads a stage of a cascade. Overrides from the environment are for its judge."""

    def load(stage: str, name: str) -> DetectorDescription:
        kept = ("dtype", "quantization", "kv_cache_dtype") if stage == "judge" else ()
        cleared = {one: None for one in ("model", *OVERRIDES) if one not in kept}
        return _described(settings.model_copy(update={"detector": name, **cleared}), _no_cascade)

    return load


def _no_cascade(stage: str, name: str) -> DetectorDescription:
    raise ConfigurationError(
        f"FAKESWEEP_DETECTOR: a stage of a cascade is a cascade itself ({stage} = {name}); name another kind"
    )


def find_source(settings: Settings) -> DescriptionFile:
    """Returns the text and place of the description that FAKESWEEP_DETECTOR names. Raises like load_description()."""
    detector, shipped = settings.detector, Path(__file__).parent
    path = Path(detector).expanduser()
    if detector.startswith(SCHEME):
        text = S3Model(detector, setting="FAKESWEEP_DETECTOR", timeout_s=settings.fetch_timeout_s).read(FILE)
        return DescriptionFile(text, detector, detector.rstrip("/"))
    if "/" not in detector and (shipped / f"{detector}.toml").is_file():
        path = shipped / f"{detector}.toml"
    elif (path / FILE).is_file():
        path /= FILE
    elif path.suffix != ".toml" and not path.is_dir() and _HUB_ID.fullmatch(detector):
        return _find_on_hub(detector, None if settings.model else settings.revision)
    if not path.is_file():
        names = ", ".join(sorted(known.stem for known in shipped.glob("*.toml")))
        raise ConfigurationError(
            f"FAKESWEEP_DETECTOR: {detector!r} is neither one of {names} nor a .toml file nor a folder with {FILE}"
        )
    path = path.resolve()
    return DescriptionFile(_text_of(path), str(path), path.parent)


def _find_on_hub(repository: str, revision: str | None) -> DescriptionFile:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - light installations have no hub client

    try:
        path = Path(hf_hub_download(repository, FILE, revision=revision))
    except Exception as error:
        raise not_on_hub("FAKESWEEP_DETECTOR", repository, error) from error
    warn_unless_pinned(repository, revision, path.parent.name)
    return DescriptionFile(_text_of(path), f"{repository}/{FILE}", repository, path.parent.name)


def _text_of(path: Path) -> str:
    try:
        return read_text(path)
    except ValueError as error:
        raise ConfigurationError(f"FAKESWEEP_DETECTOR: {path}: {error}") from None


def _absolute(model: str, base: Path) -> str:
    folder = base / Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() or model.startswith((".", "/", "~")) else model.rstrip("/")
