"""Fetches the model of a description, and inspects it before an engine starts."""

import functools
import hashlib
from pathlib import Path
from typing import TypeVar

from worker.detector.description import DetectorDescription
from worker.detector.hub import not_on_hub, warn_unless_pinned
from worker.detector.inspection import inspect
from worker.detector.s3_model import MODEL_FILES, SCHEME, S3Model
from worker.detector.weights import refusal
from worker.settings import Settings

D = TypeVar("D", bound=DetectorDescription)


def supply(description: D, settings: Settings, *, inspected: bool = True) -> tuple[D, Path]:
    """Returns the description with its true revision, and the inspected folder with config.json and the weights.

    Without `inspected`, the model may be a part of a detector only, such as a tower without a classifier.

    For a hub model, the revision is the commit behind the branch or tag. For any other model, it is the checksum of its
    configuration and weights. Raises ConfigurationError if there is no such model, if it cannot be what the description
    says (worker.detector.inspection), or if a checksum differs. Raises StorageUnavailableError if S3 is away.
    """
    folder, commit = locate(description, settings.model_cache, settings.fetch_timeout_s)
    if inspected:
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


def locate(description: DetectorDescription, cache: Path, timeout_s: float) -> tuple[Path, str | None]:
    """Returns the model's folder on this machine, and its commit if it comes from the hub. Fetches it if need be.

    Raises like supply(). Nothing is inspected.
    """
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
        raise not_on_hub("FAKESWEEP_MODEL", description.model, error) from error
    warn_unless_pinned(repository, description.revision, snapshot.name)
    return snapshot / folder, snapshot.name


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
