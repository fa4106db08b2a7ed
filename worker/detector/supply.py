"""Turns FAKESWEEP_DETECTOR and FAKESWEEP_MODEL into a description with its true revision, and a model folder."""

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import structlog

from worker.detector.calibration import Calibration
from worker.detector.description import FILE, DetectorDescription
from worker.detector.inspection import inspect
from worker.detector.s3_model import MODEL_FILES, SCHEME, S3Model
from worker.detector.weights import refusal
from worker.errors import ConfigurationError
from worker.files import read_text
from worker.images import Decoding
from worker.settings import Settings

log = structlog.get_logger(__name__)

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


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

    def describe(self, changes: dict[str, str] | None = None) -> DetectorDescription:
        """Returns the description with its model located. `changes` (dotted names) override the text.

        Raises ConfigurationError when it is not valid.
        """
        description = DetectorDescription.parse(self.text, where=self.where, changes=changes)
        own: dict[str, Any] = {"model": self.locate(description.model)}
        if self.commit and description.model.startswith("."):
            own["revision"] = self.commit
        return description.model_copy(update=own)


def load_description(settings: Settings) -> DetectorDescription:
    """Returns the description that FAKESWEEP_DETECTOR names, with overrides from the environment.

    Raises ConfigurationError if there is none or it is not valid, and StorageUnavailableError if S3 is away.
    """
    source = find_source(settings)
    changes = {
        "prompt": settings.prompt,
        "engine.dtype": settings.dtype,
        "engine.quantization": settings.quantization,
        "engine.kv_cache_dtype": settings.kv_cache_dtype,
        "revision": settings.revision,
    }
    description = source.describe({name: value for name, value in changes.items() if value is not None})
    if settings.model:
        # Another model: the description's revision and checksums belong to its own model.
        own: dict[str, Any] = {
            "model": _absolute(settings.model, Path.cwd()),
            "revision": settings.revision,
            "checksums": {},
        }
        description = description.model_copy(update=own)
    return _without_foreign_calibration(description, settings)


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
        raise _not_on_hub("FAKESWEEP_DETECTOR", repository, error) from error
    _warn_unless_pinned(repository, revision, path.parent.name)
    return DescriptionFile(_text_of(path), f"{repository}/{FILE}", repository, path.parent.name)


def _text_of(path: Path) -> str:
    try:
        return read_text(path)
    except ValueError as error:
        raise ConfigurationError(f"FAKESWEEP_DETECTOR: {path}: {error}") from None


def _absolute(model: str, base: Path) -> str:
    folder = base / Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() or model.startswith((".", "/", "~")) else model.rstrip("/")


def supply(description: DetectorDescription, settings: Settings) -> tuple[DetectorDescription, Path]:
    """Returns the description with its true revision, and the inspected folder with config.json and the weights.

    For a hub model, the revision is the commit behind the branch or tag. For any other model, it is the checksum of its
    configuration and weights. Raises ConfigurationError if there is no such model, if it cannot be what the description
    says (worker.detector.inspection), or if a checksum differs. Raises StorageUnavailableError if S3 is away.
    """
    folder, commit = _locate(description, settings.model_cache, settings.fetch_timeout_s)
    inspect(folder, description, engine=settings.engine, gpu_memory_utilization=settings.gpu_memory_utilization)
    digest = functools.cache(lambda name: _sha256(folder / name))  # weights of 14 GB may be asked for twice
    for name, expected in description.checksums.items():
        if digest(name) != expected:
            raise refusal(
                f"{folder / name} has the SHA-256 {digest(name)}, but the description says {expected}",
                "fetch the model again, or correct [checksums]",
            )
    revision = commit or f"sha256:{_checksum(folder, digest)}"
    return description.model_copy(update={"revision": revision}), folder


def _locate(description: DetectorDescription, cache: Path, timeout_s: float) -> tuple[Path, str | None]:
    """Returns the model's folder on this machine, and its commit if it comes from the hub."""
    if description.model.startswith(SCHEME):
        found = S3Model(description.model, setting="FAKESWEEP_MODEL", timeout_s=timeout_s)
        return found.download(cache.expanduser().resolve()), None
    folder = Path(description.model)
    if folder.is_absolute() or folder.exists():
        return folder.resolve(), None
    return _from_hub(description)


def _from_hub(description: DetectorDescription) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - light installations have no hub client

    owner, _, rest = description.model.partition("/")
    name, _, folder = rest.partition("/")
    repository = f"{owner}/{name}" if name else owner
    patterns = [f"{folder}/{pattern}" if folder else pattern for pattern in MODEL_FILES]
    try:
        snapshot = Path(snapshot_download(repository, revision=description.revision, allow_patterns=patterns))
    except Exception as error:
        raise _not_on_hub("FAKESWEEP_MODEL", description.model, error) from error
    _warn_unless_pinned(repository, description.revision, snapshot.name)
    return snapshot / folder, snapshot.name


def _not_on_hub(setting: str, repository: str, error: Exception) -> ConfigurationError:
    cause = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
    return ConfigurationError(
        f"{setting}: {repository} is not a folder, and the model hub does not supply it "
        f"({type(error).__name__}: {cause[:200]}); download it first and give its folder"
    )


def _warn_unless_pinned(repository: str, revision: str | None, commit: str) -> None:
    """Warns about a branch or a tag: its model can change between two starts, and so can every score."""
    if not _COMMIT.fullmatch(revision or ""):
        log.warning("detector_unpinned", model=repository, revision=revision or "main", commit=commit)


def _checksum(folder: Path, digest: "functools._lru_cache_wrapper[str]") -> str:
    """Returns the SHA-256 over the SHA-256 sums of the configuration and the weights, in the order of their names."""
    names = [path.name for pattern in ("*.json", "*.safetensors") for path in sorted(folder.glob(pattern))]
    return hashlib.sha256(b"".join(bytes.fromhex(digest(name)) for name in names)).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise refusal(f"{path} cannot be read ({error.strerror})", "fetch the model again") from error
