"""Finds the description that FAKESWEEP_DETECTOR names, and applies the settings that override it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import structlog

from worker.detector.calibration import Calibration
from worker.detector.description import FILE, CascadeDescription, DetectorDescription, parse_description
from worker.detector.hub import not_on_hub, warn_unless_pinned
from worker.detector.s3_model import SCHEME, S3Model
from worker.errors import ConfigurationError
from worker.files import read_text
from worker.images import Decoding
from worker.settings import Settings

log = structlog.get_logger(__name__)

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_OVERRIDES = ("prompt", "dtype", "quantization", "kv_cache_dtype", "revision")
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

    def describe(
        self, load: Callable[[str, str], DetectorDescription], overrides: Mapping[str, str]
    ) -> DetectorDescription:
        """Returns the description with its model located. `overrides` are settings by name, in place of the text.

        `load` returns the description of a stage of a cascade: of `first` or `judge`, which has this name.
        Raises ConfigurationError when it is not valid.
        """
        description = parse_description(
            self.text, where=self.where, overrides=overrides, load=lambda stage, name: load(stage, self.locate(name))
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
    overrides = {name: value for name in _OVERRIDES if (value := getattr(settings, name)) is not None}
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
    return _without_foreign_calibration(description, settings)


def load_further(settings: Settings) -> tuple[DetectorDescription, ...]:
    """Returns the descriptions that FAKESWEEP_ALSO names. No override from the environment is for them.

    Raises like load_description().
    """
    cleared = dict.fromkeys(("model", *_OVERRIDES))
    each = (settings.model_copy(update={"detector": name, **cleared}) for name in settings.also)
    try:
        return tuple(map(load_description, each))
    except ConfigurationError as error:
        # The text is about the setting of the main detector, and another one is wrong.
        raise ConfigurationError(str(error).replace("FAKESWEEP_DETECTOR", "FAKESWEEP_ALSO")) from error


def check_further(main: DetectorDescription, further: Iterable[DetectorDescription]) -> None:
    """Raises ConfigurationError unless these detectors can give second opinions beside the main one.

    One decode serves all, so they need the same preprocessing. Scans ask for them by their names.
    """
    names = {main.name}
    for one in further:
        if one.name in names:
            raise ConfigurationError(
                f"FAKESWEEP_ALSO: {one.name!r} is the name of another detector of this worker: name each one once, or "
                "give it another name in its description"
            )
        names.add(one.name)
        if isinstance(one, CascadeDescription):
            raise ConfigurationError(
                f"FAKESWEEP_ALSO: {one.name} is a cascade, and its audits count only where it decides: name its judge"
            )
        if one.preprocessing != main.preprocessing:
            raise ConfigurationError(
                f"FAKESWEEP_ALSO: {one.name} prepares images by {one.preprocessing.revision}, and {main.name} by "
                f"{main.preprocessing.revision}: one decode serves both, so give them the same [preprocessing]"
            )


def stages_of(settings: Settings) -> Callable[[str, str], DetectorDescription]:
    """Returns the function that loads a stage of a cascade. Overrides from the environment are for its judge."""

    def load(stage: str, name: str) -> DetectorDescription:
        kept = ("dtype", "quantization", "kv_cache_dtype") if stage == "judge" else ()
        cleared = {one: None for one in ("model", *_OVERRIDES) if one not in kept}
        return _described(settings.model_copy(update={"detector": name, **cleared}), _no_cascade)

    return load


def _no_cascade(stage: str, name: str) -> DetectorDescription:
    raise ConfigurationError(
        f"FAKESWEEP_DETECTOR: a stage of a cascade is a cascade itself ({stage} = {name}); name another kind"
    )


def _without_foreign_calibration(description: DetectorDescription, settings: Settings) -> DetectorDescription:
    """Drops a calibration that was fitted on another model, prompt or preprocessing.

    For another number format, a calibration is nearly right: it is kept, with a warning.
    """
    if description.calibration == Calibration():
        return description
    reason = _other_pixels(description)
    if settings.model or settings.prompt:
        reason = "FAKESWEEP_MODEL or FAKESWEEP_PROMPT makes another detector"
    if reason:
        log.warning("calibration_dropped", reason=reason)
        return description.model_copy(update={"calibration": Calibration()})
    if settings.dtype or settings.quantization or settings.kv_cache_dtype:
        log.warning("calibration_of_another_precision", fitted_on=description.calibration.fitted_on)
    return description


def _other_pixels(description: DetectorDescription) -> str | None:
    """Returns why the calibration was fitted on other pixels than the description asks for; None if it was not."""
    fitted_under, form = description.calibration.preprocessing, description.preprocessing
    # If a calibration names no preprocessing, it was written by hand, or before `decode`: images were decoded in full.
    same = form.decode is Decoding.FULL if fitted_under is None else fitted_under == form.revision
    if same:
        return None
    return (
        f"it was fitted under the preprocessing {fitted_under or 'with decode = full'}, but the description says "
        f"{form.revision}: run fakesweep calibrate again"
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
